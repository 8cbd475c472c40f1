package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

func TestRunRefusesWrongFlags(t *testing.T) {
	anchor := strings.Repeat("a", 40)
	for _, c := range []struct{ args, want string }{
		{"", "--repo is missing"},
		{"--repo https://x/y", "--anchor is missing"},
		{"--repo https://x/y --anchor abc", `--anchor "abc" is no whole commit id`},
		{"--repo https://x/y --anchor " + strings.Repeat("G", 40), "is no whole commit id"},
		{"--repo https://x/y --tls-cert c --anchor " + anchor, "belong together"},
		{"--repo https://x/y --poll-interval 1ms --anchor " + anchor, "too short"},
		{"--repo https://x/y --log-level loud --anchor " + anchor, `--log-level "loud" is none of`},
		{"--repo https://x/y --log-format xml --anchor " + anchor, `--log-format "xml" is none of`},
		{"--repo https://x/y --repo-auth /nowhere --anchor " + anchor, "read --repo-auth"},
		{"--repo https://x/y --kubeconfig /nowhere --anchor " + anchor, "find the cluster"},
	} {
		t.Run(c.args, func(t *testing.T) {
			var errs bytes.Buffer
			env := &cli.Env{Out: &bytes.Buffer{}, Err: &errs, Getenv: func(string) string { return "" }}
			code := cli.Run(t.Context(), env, newRootCommand, append([]string{"run"}, strings.Fields(c.args)...))
			if code != cli.ExitUsage || !strings.Contains(errs.String(), c.want) {
				t.Errorf("exit code %d, %q; want 2 and %q", code, errs.String(), c.want)
			}
		})
	}
}

func TestReadAuth(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("auth.yaml", "username: hub\npassword: geheim\n")
	write("secret/username", "hub\n")
	write("secret/password", "geheim\n")
	write("secret/knownHosts", "git.example.com ssh-ed25519 AAAA\n")
	ca := write("ca.pem", "-----BEGIN CERTIFICATE-----\n")
	for _, c := range []struct {
		path, ca string
		want     source.Auth
	}{
		{"", "", source.Auth{}},
		{file, ca, source.Auth{Username: "hub", Password: "geheim", CA: "-----BEGIN CERTIFICATE-----\n"}},
		{filepath.Join(dir, "secret"), "", source.Auth{Username: "hub", Password: "geheim", KnownHosts: "git.example.com ssh-ed25519 AAAA\n"}},
	} {
		got, err := readAuth(c.path, c.ca)
		if err != nil || got != c.want {
			t.Errorf("readAuth(%q, %q) = %v, %v", c.path, c.ca, got, err)
		}
	}
	if _, err := readAuth(write("bad.yaml", "user: x\n"), ""); err == nil {
		t.Error("an unknown field is no error")
	}
}
