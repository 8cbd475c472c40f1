package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// etcdSocket is etcd's address below the lab's folder; etcd wants "host:port" even for the name of a socket.
const etcdSocket = "etcd:0"

// startEtcd starts etcd on sockets, so it takes no port and nobody else reaches it. The API server waits for it.
func (l *Lab) startEtcd(context.Context) error {
	path, err := hostProgram("etcd")
	if err != nil {
		return err
	}
	l.logf("lab: starting etcd")
	if err := os.Remove(filepath.Join(l.Dir, etcdSocket)); err != nil && !errors.Is(err, os.ErrNotExist) { // a killed etcd's
		return err
	}
	const peer = "unix://etcd-peer:0"
	_, err = l.procs.start("etcd", path,
		"--name=lab", "--data-dir="+filepath.Join(l.Dir, "etcd"),
		"--listen-client-urls=unix://"+etcdSocket, "--advertise-client-urls=unix://"+etcdSocket,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=lab="+peer)
	if err != nil {
		return err
	}
	return poll(startTimeout, func() error {
		info, err := os.Stat(filepath.Join(l.Dir, etcdSocket))
		if err == nil && info.Mode()&os.ModeSocket == 0 {
			err = fmt.Errorf("%s is no socket: %w", etcdSocket, syscall.EINVAL)
		}
		return err
	})
}

// StartAPIServer starts kube-apiserver and waits until it is ready. Start does so by itself; it is there for tests that
// called StopAPIServer. The server comes back at the same address with the same data.
func (l *Lab) StartAPIServer(ctx context.Context) error {
	path, err := Program("kube-apiserver")
	if err != nil {
		return err
	}
	l.logf("lab: starting kube-apiserver %s on %s", KubernetesVersion, l.Server())
	p, err := l.procs.start("kube-apiserver", path, append(l.apiServerFlags(), l.opts.APIServerFlags...)...)
	if err != nil {
		return err
	}
	return p.WaitReady(ctx, func(ctx context.Context) error {
		if err := l.Request(ctx, "GET", "/readyz", nil, nil); err != nil {
			return err
		}
		return l.Request(ctx, "GET", "/api/v1/namespaces/default", nil, nil)
	})
}

// StopAPIServer ends kube-apiserver at once, as a cut link would; etcd keeps its data. See StartAPIServer.
func (l *Lab) StopAPIServer() error {
	l.logf("lab: stopping kube-apiserver")
	return l.procs.stop("kube-apiserver")
}

func (l *Lab) apiServerFlags() []string {
	pki := func(name string) string { return filepath.Join(l.Dir, "pki", name) }
	flags := []string{"--bind-address=127.0.0.1",
		// Endpoints cannot hold a loopback address, and no pod here asks for the service kubernetes.
		"--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none"}
	if l.opts.Services {
		// Every loopback address is a link, see Link; pods come by the lab's own network.
		flags = []string{"--bind-address=0.0.0.0", "--advertise-address=" + l.network.gateway()}
	}
	return append(flags,
		"--etcd-servers=unix://"+filepath.Join(l.Dir, etcdSocket),
		fmt.Sprintf("--secure-port=%d", l.port),
		"--tls-cert-file="+pki("apiserver.crt"), "--tls-private-key-file="+pki("apiserver.key"),
		"--client-ca-file="+pki("ca.crt"),
		"--service-account-key-file="+pki("tokens.crt"), "--service-account-signing-key-file="+pki("tokens.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--kubelet-client-certificate="+pki("kubelet-client.crt"), "--kubelet-client-key="+pki("kubelet-client.key"),
		"--kubelet-certificate-authority="+pki("ca.crt"),
		"--kubelet-preferred-address-types=InternalIP",
		"--allow-privileged=true",
		"--profiling=false",
	)
}
