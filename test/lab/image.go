package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Images that every real node of a lab has. There is no registry: pods name one of these with imagePullPolicy Never.
const (
	// PauseImage holds a pod's namespaces; it waits for a signal.
	PauseImage = "lab.holdfast.dev/pause:1"
	// WebImage serves HTTP on port 8080 (or $PORT) and answers with the pod's host name.
	WebImage = "lab.holdfast.dev/web:1"
)

// imageSource is the program in both images; its digest names the archive in the cache.
//
//go:embed image/main.go
var imageSource []byte

// imageArchive gives the file of a docker archive with both images, which it builds once for each version of their source.
func imageArchive(ctx context.Context) (string, error) {
	dir, err := home()
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(imageSource)
	archive := filepath.Join(dir, "images", hex.EncodeToString(digest[:8])+".tar")
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(archive), 0o700); err != nil {
		return "", err
	}
	program := fmt.Sprintf("%s.%d.tmp", archive, os.Getpid())
	defer os.Remove(program)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./test/lab/image")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the lab's image: %w\n%s", err, out)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	tarball, err := dockerArchive(data)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(program, tarball, 0o600); err != nil {
		return "", err
	}
	return archive, os.Rename(program, archive)
}

// dockerArchive packs a static program as two images of one layer.
func dockerArchive(program []byte) ([]byte, error) {
	layer, err := pack([]file{{"lab-image", 0o755, program}})
	if err != nil {
		return nil, err
	}
	type object = map[string]any
	var manifest []object
	files := []file{{"layer.tar", 0o644, layer}}
	for _, image := range []struct{ tag, mode string }{{PauseImage, "pause"}, {WebImage, "web"}} {
		config, err := json.Marshal(object{
			"architecture": runtime.GOARCH, "os": "linux",
			"config": object{"Entrypoint": []string{"/lab-image", image.mode}},
			"rootfs": object{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
		})
		if err != nil {
			return nil, err
		}
		files = append(files, file{image.mode + ".json", 0o644, config})
		manifest = append(manifest, object{
			"Config": image.mode + ".json", "RepoTags": []string{image.tag}, "Layers": []string{"layer.tar"}})
	}
	data, err := json.Marshal(manifest)
	if err != nil {
		return nil, err
	}
	return pack(append(files, file{"manifest.json", 0o644, data}))
}

// file is one entry of a tar archive.
type file struct {
	name string
	mode int64
	data []byte
}

func pack(files []file) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}
