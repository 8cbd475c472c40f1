// Package cosign builds the real cosign command for tests, so that what they check was signed by the program that people sign
// with. Its version is pinned by the module in the folder command.
package cosign

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const packagePath = "github.com/sigstore/cosign/v2/cmd/cosign"

// Command gives the path of the cosign command. The first call builds it, which takes about ten minutes on two cores, and says
// so to log; it is kept in the cache folder until another version is pinned.
func Command(ctx context.Context, log io.Writer) (string, error) {
	module, err := moduleFolder()
	if err != nil {
		return "", err
	}
	path, err := cached(module)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fmt.Fprintln(log, "cosign: building the command, once (about 10 minutes)")
	began := time.Now()
	// Built under another name, so that what stands under this one is always whole.
	temporary := fmt.Sprintf("%s.%d.tmp", path, os.Getpid())
	defer os.Remove(temporary)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", temporary, packagePath)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build cosign: %w\n%s", err, lastLines(string(out), 20))
	}
	if err := os.Rename(temporary, path); err != nil {
		return "", fmt.Errorf("keep cosign: %w", err)
	}
	fmt.Fprintf(log, "cosign: built in %s\n", time.Since(began).Round(time.Second))
	return path, nil
}

// moduleFolder is the folder of the module that pins the version, beside this file.
func moduleFolder() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/holdfast-dev/holdfast").Output()
	if err != nil {
		return "", fmt.Errorf("find the source of Holdfast (run this inside its work tree): %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "test", "cosign", "command"), nil
}

// cached is where the command is kept: in a folder named after all that it is built from.
func cached(module string) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version())
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", fmt.Errorf("read the version of cosign: %w", err)
		}
		fmt.Fprintf(hash, "%d\n%s", len(data), data)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	dir := filepath.Join(cache, "holdfast-lab", "cosign-"+hex.EncodeToString(hash.Sum(nil)[:8]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	return filepath.Join(dir, "cosign"), nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
