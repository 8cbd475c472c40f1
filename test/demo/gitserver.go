package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/holdfast-dev/holdfast/test/gitserver"
)

// gitServerArg makes this program the Git server: in a process of its own it can be left running.
const gitServerArg = "git-server"

// Files in the Git server's folder that say where it serves, to people and to nodes, and with which certificates.
const (
	gitURLFile = "url"
	gitCAFile  = "ca.crt"
)

// serveGit serves the bare repositories in dir over HTTPS until ctx ends: to people, who may push, and read-only at the address line, to
// nodes whose line can be cut.
func serveGit(ctx context.Context, dir, line string) error {
	people, err := gitserver.Start(gitserver.Config{Root: dir, Push: true})
	if err != nil {
		return fmt.Errorf("serve Git: %w", err)
	}
	nodes, err := gitserver.Start(gitserver.Config{Root: dir, Listen: net.JoinHostPort(line, "0")})
	if err != nil {
		return fmt.Errorf("serve Git at %s: %w", line, err)
	}
	if err := os.WriteFile(filepath.Join(dir, gitCAFile), []byte(people.CA+nodes.CA), 0o600); err != nil {
		return err
	}
	temporary := filepath.Join(dir, gitURLFile+".tmp")
	if err := os.WriteFile(temporary, []byte(people.URL+"\n"+nodes.URL), 0o600); err != nil {
		return err
	}
	if err := os.Rename(temporary, filepath.Join(dir, gitURLFile)); err != nil {
		return err
	}
	<-ctx.Done()
	return errors.Join(people.Close(), nodes.Close())
}
