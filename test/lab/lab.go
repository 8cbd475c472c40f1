// Package lab runs a real Kubernetes on one small machine, for tests and for the demo: etcd, kube-apiserver and, where
// asked, the controllers, the scheduler and kubelets with a containerd and a network of their own. It exists because
// Holdfast's promises are about how real Kubernetes programs behave, and a fake cannot break them.
//
// It needs no container registry and no init system. Everything a lab makes lies in one folder, or is recorded there, so that
// Close, or the next Start after a crash, ends exactly what this lab started.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Options choose what Start brings up. The zero value is etcd and kube-apiserver alone.
type Options struct {
	// Name is the lab's folder name below RunDir; empty means a random one. Two labs cannot share a name.
	Name string
	// Keep lets the lab outlive the process that started it. Without it the kernel ends the lab's programs as soon as
	// that process ends, however it ends.
	Keep bool
	// Controllers starts kube-controller-manager and kube-scheduler too. Pods need them.
	Controllers bool
	// Services gives the lab a network of its own, on which pods reach the API server, so that the service kubernetes works
	// once a node runs kube-proxy (see Node.StartKubeProxy). The process must be root.
	Services bool
	// ControllerFlags are added to kube-controller-manager's command line.
	ControllerFlags []string
	// APIServerFlags are added to kube-apiserver's command line, for example "--audit-log-path=…".
	APIServerFlags []string
	// Log receives one line for each thing that is done; nil means none.
	Log io.Writer
}

// Lab is one running Kubernetes. Its methods may be used by several goroutines at once.
type Lab struct {
	// Dir holds everything the lab has: certificates, kubeconfigs, logs, data. It is gone after Close.
	Dir string

	opts  Options
	ca    *authority
	port  int
	procs *processes
	http  *http.Client
	// network is the lab's own, if Options.Services asked for one; links is the /24 of its links' addresses.
	network subnet
	links   subnet

	// mu guards what follows.
	mu        sync.Mutex
	nodes     []*Node
	linkCount byte
	// kubeProxy is the lock of the one kube-proxy on this machine, if this lab has it.
	kubeProxy *os.File
}

// startTimeout bounds the wait for each program to become ready.
const startTimeout = 90 * time.Second

// Start brings a lab up and returns once its API server is ready, 5 to 8 seconds later. It first takes down labs whose
// owner died without closing them. It never builds Kubernetes: if the programs are missing, its error says how to build them.
func Start(ctx context.Context, opts Options) (*Lab, error) {
	if err := need(opts); err != nil {
		return nil, err
	}
	if err := Sweep(opts.Log); err != nil {
		return nil, err
	}
	dir, err := claim(opts.Name, opts.Keep)
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir, opts: opts, procs: newProcesses(dir, opts.Keep)}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start lab: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context) error {
	var err error
	if l.ca, err = newAuthority(l.Dir); err != nil {
		return err
	}
	if l.port, err = freePort(); err != nil {
		return err
	}
	if err := l.makeNetwork(); err != nil {
		return err
	}
	if err := l.writeControlPlaneCredentials(); err != nil {
		return err
	}
	if l.http, err = l.ca.adminClient(l.Dir); err != nil {
		return err
	}
	if err := l.startEtcd(ctx); err != nil {
		return err
	}
	if err := l.StartAPIServer(ctx); err != nil {
		return err
	}
	if l.opts.Controllers {
		return l.startControllers(ctx)
	}
	return nil
}

// Server is the API server's address, as in "https://127.0.0.1:20443".
func (l *Lab) Server() string { return fmt.Sprintf("https://127.0.0.1:%d", l.port) }

// CAFile is the certificate file of the lab's authority, which signed every certificate in the lab.
func (l *Lab) CAFile() string { return filepath.Join(l.Dir, "pki", "ca.crt") }

// AdminKubeconfig is the file of a kubeconfig that may do everything.
func (l *Lab) AdminKubeconfig() string { return l.kubeconfigFile("admin") }

// Close ends every program of the lab, unmounts what they mounted, removes their bridges, network namespaces and cgroups, and
// deletes the folder. It may be called more than once.
func (l *Lab) Close() error {
	l.procs.killAll()
	err := takeDown(l.Dir)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kubeProxy != nil {
		err = errors.Join(err, l.kubeProxy.Close())
		l.kubeProxy = nil
	}
	return err
}

// logf writes one line to the log the caller gave.
func (l *Lab) logf(format string, args ...any) { logTo(l.opts.Log, format, args...) }

func logTo(w io.Writer, format string, args ...any) {
	if w != nil {
		fmt.Fprintf(w, format+"\n", args...)
	}
}

// need checks that the programs are there before anything is made.
func need(opts Options) error {
	programs := []string{"kube-apiserver"}
	if opts.Controllers {
		programs = append(programs, "kube-controller-manager", "kube-scheduler")
	}
	if opts.Services {
		programs = append(programs, "kube-proxy")
	}
	var errs []error
	for _, p := range programs {
		if _, err := Program(p); err != nil {
			errs = append(errs, err)
		}
	}
	if _, err := hostProgram("etcd"); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// writeFile writes a file that only its owner may read, with the folders above it.
func writeFile(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o600)
}
