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
	// InformerImage watches the resource its argument names with client-go, and serves what it sees on port 8080: see
	// test/lab/informer. A node has it if NodeOptions.Informer asked for it.
	InformerImage = "lab.holdfast.dev/informer:1"
)

// program is a static program of this module, and the images it is in.
type program struct {
	// folder is where its source is, from the root of the module; the digest of source names the archive in the cache.
	folder string
	source []byte
	images []image
}

// image is an image's name and the first argument of its program, if it wants one.
type image struct{ tag, mode string }

var (
	//go:embed image/main.go
	imageSource []byte
	//go:embed informer/main.go
	informerSource []byte
)

func basicImages() program {
	return program{"./test/lab/image", imageSource, []image{{PauseImage, "pause"}, {WebImage, "web"}}}
}

func informerImages() program {
	return program{"./test/lab/informer", append([]byte(KubernetesVersion), informerSource...), []image{{InformerImage, ""}}}
}

// archive gives the file of a docker archive with the images, which it builds once for each version of their source.
func (p program) archive(ctx context.Context) (string, error) {
	dir, err := home()
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(p.source)
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
	built := fmt.Sprintf("%s.%d.tmp", archive, os.Getpid())
	defer os.Remove(built)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", built, p.folder)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the lab's image from %s: %w\n%s", p.folder, err, out)
	}
	data, err := os.ReadFile(built)
	if err != nil {
		return "", err
	}
	tarball, err := dockerArchive(data, p.images)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(built, tarball, 0o600); err != nil {
		return "", err
	}
	return archive, os.Rename(built, archive)
}

// dockerArchive packs a static program as images of one layer.
func dockerArchive(program []byte, images []image) ([]byte, error) {
	layer, err := pack([]file{{"lab-image", 0o755, program}})
	if err != nil {
		return nil, err
	}
	type object = map[string]any
	var manifest []object
	files := []file{{"layer.tar", 0o644, layer}}
	for i, image := range images {
		entry := []string{"/lab-image"}
		if image.mode != "" {
			entry = append(entry, image.mode)
		}
		config, err := json.Marshal(object{
			"architecture": runtime.GOARCH, "os": "linux",
			"config": object{"Entrypoint": entry},
			"rootfs": object{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
		})
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("%d.json", i)
		files = append(files, file{name, 0o644, config})
		manifest = append(manifest, object{"Config": name, "RepoTags": []string{image.tag}, "Layers": []string{"layer.tar"}})
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
