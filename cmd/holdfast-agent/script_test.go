package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/edgeagent"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
	"github.com/holdfast-dev/holdfast/test/fleetrepo"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

func TestMain(m *testing.M) {
	sandbox.Main(revision.Children())
	testscript.Main(m, map[string]func(){"holdfast-agent": main})
}

type fleetKey struct{}

// TestScripts runs testdata/script/*.txtar, each with a fleet repo behind a Git server of its own: $REPO, $CA and $ANCHOR. What a
// command prints is compared word by word.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			f := fleetrepo.Start(t, gitserver.Config{}, fleetrepo.One("berlin", "till-1", "rack", "7"))
			state, err := os.MkdirTemp("", "hf") // the script's own folder can be too long a path for a socket
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(state) })
			e.Values[fleetKey{}] = f
			for k, v := range map[string]string{"REPO": f.URL, "CA": f.CA, "ANCHOR": f.Anchor(), "STATE": filepath.Join(state, "s"), "NO_COLOR": "1", "HOLDFAST_PROGRESS": "off",
				"GORACE": "atexit_sleep_ms=0"} { // with the race detector each program would wait a second at its end
				e.Setenv(k, v)
			}
			return nil
		},
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds:          map[string]func(*testscript.TestScript, bool, []string){"fleet": fleetCommand, "running": runningCommand, "exit": exitCommand, "kubelet": kubeletCommand},
	})
}

// fleetCommand changes the fleet repo and sets $TIP:
//
//	fleet push KEY=VALUE       a signed commit: the node's one label
//	fleet unsigned             a commit without a signature
//	fleet reset                the branch is put back to the anchor
//	fleet rewrite KEY=VALUE    an unsigned commit on the anchor takes the branch
//	fleet down, fleet up       the Git server
func fleetCommand(ts *testscript.TestScript, neg bool, args []string) {
	f, ok := ts.Value(fleetKey{}).(*fleetrepo.Fleet)
	if !ok || neg || len(args) == 0 {
		ts.Fatalf("fleet push KEY=VALUE | unsigned | reset | rewrite KEY=VALUE | down | up")
	}
	pool := func() fleetrepo.Pool {
		k, v, _ := strings.Cut(args[1], "=")
		return fleetrepo.One("berlin", "till-1", k, v)
	}
	switch args[0] {
	case "push":
		f.Set(pool())
	case "unsigned":
		f.PushUnsigned(map[string]string{"README.md": "no signature"})
	case "reset":
		f.SetRef("refs/heads/main", f.Anchor())
	case "rewrite":
		f.SetRef("refs/heads/main", f.Anchor())
		f.PushUnsigned(pool().File())
	case "down":
		f.Git.Set(gitserver.CutAfter(0)) // connections that are open are of no use either
		ts.Check(f.Git.Down())
	case "up":
		f.Git.Set(gitserver.Healthy)
		ts.Check(f.Git.Up())
	default:
		ts.Fatalf("fleet %s is not known", args[0])
	}
	ts.Setenv("TIP", f.Tip())
	ts.Setenv("SHORT", f.Tip()[:12])
}

// kubeletCommand lays a kubelet's files out as kubeadm does: etc/kubelet.conf, lib/config.yaml and lib/pki/.
func kubeletCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("kubelet NODE")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "system:node:" + args[0], Organization: []string{"system:nodes"}}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	current := ts.MkAbs("lib/pki/kubelet-client-current.pem")
	for path, content := range map[string]string{
		"lib/pki/kubelet-client-2026-01-01-00-00-00.pem": string(both),
		"lib/config.yaml": "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nrotateCertificates: true # kubeadm\n",
		"etc/kubelet.conf": fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"+
			"clusters: [{name: k, cluster: {server: \"https://127.0.0.1:1\"}}]\nusers: [{name: u, user: {client-certificate: %s, client-key: %s}}]\n", current, current),
	} {
		ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(path)), 0o700))
		ts.Check(os.WriteFile(ts.MkAbs(path), []byte(content), 0o600))
	}
	ts.Check(os.Symlink("kubelet-client-2026-01-01-00-00-00.pem", current))
}

// runningCommand waits until an agent answers in $STATE, or with "!" until none does.
func runningCommand(ts *testscript.TestScript, neg bool, _ []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		_, err := edgeagent.Control{State: ts.Getenv("STATE")}.Status(ctx)
		if (err == nil) != neg {
			return
		}
		if ctx.Err() != nil {
			ts.Fatalf("running: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// exitCommand runs a command that must end with that exit code.
func exitCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("exit CODE COMMAND ARG …")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// TestNotify: systemd is told through a socket, which may be an abstract one.
func TestNotify(t *testing.T) {
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, bind := range map[string]string{filepath.Join(dir, "n"): filepath.Join(dir, "n"), "@holdfast-test" + filepath.Base(dir): "\x00holdfast-test" + filepath.Base(dir)} {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: bind, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		notify(&cli.Env{Err: io.Discard, Getenv: func(k string) string { return map[string]string{"NOTIFY_SOCKET": name}[k] }}, "READY=1")
		buf := make([]byte, 100)
		err = errors.Join(l.SetReadDeadline(time.Now().Add(10*time.Second)), err)
		n, readErr := l.Read(buf)
		if err = errors.Join(err, readErr, l.Close()); err != nil || string(buf[:n]) != "READY=1" {
			t.Fatalf("%s: %q, %v", name, buf[:n], err)
		}
	}
}
