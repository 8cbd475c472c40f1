package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Build builds every Kubernetes program and image that is not in the cache yet, and writes its progress to log. From nothing it takes
// about 15 minutes on two cores; with all in place it takes no time. Two builds at once wait for each other.
func Build(ctx context.Context, log io.Writer) error {
	dir, err := home()
	if err != nil {
		return err
	}
	return withLock(dir, func() error {
		for _, r := range releases() {
			if err := r.build(ctx, log, filepath.Join(dir, r.version)); err != nil {
				return err
			}
		}
		for _, p := range []program{basicImages(), informerImages()} {
			if _, err := p.archive(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// build builds what is missing of a release into a folder.
func (r release) build(ctx context.Context, log io.Writer, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range r.programs {
		if err := r.buildProgram(ctx, log, filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("build %s %s: %w", name, r.version, err)
		}
	}
	return nil
}

// buildProgram builds into a temporary name, so that a program in the cache is always whole.
func (r release) buildProgram(ctx context.Context, log io.Writer, path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	name := filepath.Base(path)
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	logTo(log, "lab: building %s %s", name, r.version)
	began := time.Now()
	temporary := fmt.Sprintf("%s.%d.tmp", path, os.Getpid())
	defer os.Remove(temporary)
	// -v names each package as it is compiled, which is all the progress that go build can show.
	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-trimpath", "-ldflags", r.versionFlags(),
		"-o", temporary, "k8s.io/kubernetes/cmd/"+name)
	cmd.Dir = filepath.Join(root, "test", "lab", r.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if err := runWithProgress(cmd, log); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	logTo(log, "lab: built %s in %s", name, time.Since(began).Round(time.Second))
	return nil
}

// versionFlags sets the version, or clients would see v0.0.0.
func (r release) versionFlags() string {
	const pkg = "k8s.io/component-base/version."
	numbers := strings.SplitN(strings.TrimPrefix(r.version, "v"), ".", 3)
	return fmt.Sprintf("-s -w -X %sgitVersion=%s -X %sgitMajor=%s -X %sgitMinor=%s",
		pkg, r.version, pkg, numbers[0], pkg, numbers[1])
}

// runWithProgress counts the packages that go build names, and says how many every 15 seconds. On failure its error holds
// the last of what the command said.
func runWithProgress(cmd *exec.Cmd, log io.Writer) error {
	const every = 15 * time.Second
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		ended <- errors.Join(err, writer.Close())
	}()
	var last []string
	next := time.Now().Add(every)
	scanner := bufio.NewScanner(reader)
	for count := 1; scanner.Scan(); count++ {
		last = append(last, scanner.Text())
		last = last[max(0, len(last)-20):]
		if time.Now().After(next) {
			logTo(log, "lab:   %d packages, now %s", count, scanner.Text())
			next = time.Now().Add(every)
		}
	}
	if err := <-ended; err != nil {
		return fmt.Errorf("%w\n%s", err, strings.Join(last, "\n"))
	}
	return scanner.Err()
}

// moduleRoot is the folder of Holdfast's own go.mod, found from the working directory as the go command does.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", modulePath).Output()
	if err != nil {
		return "", fmt.Errorf("find the source of %s (run this inside its work tree): %w", modulePath, err)
	}
	return string(bytes.TrimSpace(out)), nil
}

const modulePath = "github.com/holdfast-dev/holdfast"
