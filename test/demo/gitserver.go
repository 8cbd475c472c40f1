package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-dev/holdfast/test/gitserver"
)

// gitServerArg makes this program the Git server: in a process of its own it can be left running.
const gitServerArg = "git-server"

// Files in the Git server's folder that say where it serves, and with which certificate.
const (
	gitURLFile = "url"
	gitCAFile  = "ca.crt"
)

// serveGit serves the bare repositories in dir over HTTPS until ctx ends.
func serveGit(ctx context.Context, dir string) error {
	server, err := gitserver.Start(gitserver.Config{Root: dir, Push: true})
	if err != nil {
		return fmt.Errorf("serve Git: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, gitCAFile), []byte(server.CA), 0o600); err != nil {
		return err
	}
	temporary := filepath.Join(dir, gitURLFile+".tmp")
	if err := os.WriteFile(temporary, []byte(server.URL), 0o600); err != nil {
		return err
	}
	if err := os.Rename(temporary, filepath.Join(dir, gitURLFile)); err != nil {
		return err
	}
	<-ctx.Done()
	return server.Close()
}
