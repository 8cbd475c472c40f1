package lab

import (
	"context"
	"fmt"
	"path/filepath"
)

// startControllers starts kube-controller-manager and kube-scheduler, and waits until the service account that every pod of the
// namespace default needs is there.
func (l *Lab) startControllers(ctx context.Context) error {
	manager, err := l.startController("kube-controller-manager", append([]string{
		"--service-account-private-key-file=" + filepath.Join(l.Dir, "pki", "tokens.key"),
		"--root-ca-file=" + l.CAFile(), "--use-service-account-credentials=true",
		"--cluster-signing-cert-file=" + l.CAFile(), "--cluster-signing-key-file=" + filepath.Join(l.Dir, "pki", "ca.key"),
	}, l.opts.ControllerFlags...)...)
	if err != nil {
		return err
	}
	if _, err := l.startController("kube-scheduler"); err != nil {
		return err
	}
	return manager.WaitReady(ctx, func(ctx context.Context) error {
		if err := l.Request(ctx, "GET", "/api/v1/namespaces/default/serviceaccounts/default", nil, nil); err != nil {
			return err
		}
		return l.Request(ctx, "GET", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt", nil, nil)
	})
}

// startController starts one of the two, as the user system:NAME.
func (l *Lab) startController(name string, flags ...string) (*Process, error) {
	path, err := Program(name)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := l.Kubeconfig(name, "system:"+name)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	l.logf("lab: starting %s", name)
	return l.procs.start(name, path, append(flags,
		"--kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port), "--cert-dir="+filepath.Join(l.Dir, "pki", name),
		"--leader-elect=false", "--profiling=false")...)
}
