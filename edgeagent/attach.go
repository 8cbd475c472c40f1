package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/kube"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/kubelet"
	"github.com/holdfast-dev/holdfast/edgeagent/store"
)

// ProxyOptions say which kubelet is to talk to the API server through the proxy.
type ProxyOptions struct {
	// Kubelet are the kubelet's files. For Detach they are known.
	Kubelet kubelet.Files
	// Address is the proxy's; "" means DefaultProxyAddress.
	Address string
	// Step is called before each step that changes a file of the kubelet's, in tests.
	Step func(point string)
}

func (o ProxyOptions) server() string {
	if o.Address == "" {
		return "https://" + DefaultProxyAddress
	}
	return "https://" + o.Address
}

// Attached is what came of putting a kubelet behind the proxy.
type Attached struct {
	Node string
	// Kubeconfig is the kubelet's.
	Kubeconfig string
	Warnings   []string
}

// Attach puts the kubelet of an enrolled node behind the proxy. Done again it brings everything up to date. The agent must not run.
func Attach(state string, o ProxyOptions) (Attached, error) {
	lock, kept, err := lockEnrolled(state)
	if err != nil {
		return Attached{}, err
	}
	defer lock.Release()
	if kept.Enrolment.Standalone {
		return Attached{}, fmt.Errorf("node %s is standalone: enrol it again with --kubeconfig", kept.Enrolment.Node)
	}
	return attach(state, kept.Enrolment.Node, o)
}

// Detach takes the kubelet out again: every file is as it was before. kubelet.ErrNotAttached if it is not behind the proxy. The
// agent must not run.
func Detach(state string, o ProxyOptions) (notes []string, err error) {
	lock, _, err := lockEnrolled(state)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	if notes, err = detach(state, o.Step); err != nil {
		return nil, err
	}
	if err := removePodAddress(state); err != nil {
		notes = append(notes, err.Error())
	}
	return notes, nil
}

func lockEnrolled(state string) (*store.Lock, store.State, error) {
	if !exists(state) {
		return nil, store.State{}, fmt.Errorf("%w: there is no folder %s", store.ErrNotEnrolled, state)
	}
	lock, err := store.TakeLock(state)
	if errors.Is(err, store.ErrInUse) {
		return nil, store.State{}, fmt.Errorf("%w: stop the agent first (systemctl stop holdfast-agent)", err)
	}
	if err != nil {
		return nil, store.State{}, err
	}
	kept, err := store.ReadLocked(state, lock)
	if err != nil {
		lock.Release()
		return nil, store.State{}, err
	}
	return lock, kept.State, nil
}

// attach first gives the agent a credential of its own, and then the kubelet a local one: at no time neither has any.
func attach(state, node string, o ProxyOptions) (Attached, error) {
	var err error
	if o.Kubelet, err = o.Kubelet.Absolute(); err != nil {
		return Attached{}, err
	}
	authority, err := localAuthority(state, node)
	if err != nil {
		return Attached{}, err
	}
	if err := takeCredential(state, node, o); err != nil {
		return Attached{}, err
	}
	cert, key := authority.Client()
	warnings, err := kubelet.Attach(kubelet.Options{
		State: state, Files: o.Kubelet, Server: o.server(), CA: authority.CA(), Cert: cert, Key: key, Step: o.Step,
	})
	if err != nil {
		return Attached{}, fmt.Errorf("put the kubelet behind the proxy: %w", err)
	}
	return Attached{Node: node, Kubeconfig: o.Kubelet.Kubeconfig, Warnings: warnings}, nil
}

// detach puts the kubelet's files back, and has the agent use the kubelet's credential again.
func detach(state string, step func(string)) ([]string, error) {
	at, err := kubelet.Read(state)
	if err != nil {
		return nil, err
	}
	renewed, err := renewedSince(state, at, time.Now())
	if err != nil {
		return nil, err
	}
	notes, err := kubelet.Detach(state, renewed, step)
	if err != nil {
		return nil, fmt.Errorf("take the kubelet out of the proxy: %w; run it again when that is mended", err)
	}
	cfg, err := kube.Load(at.Kubeconfig)
	if err == nil {
		_, err = cfg.CertificateUser() // it can be read
	}
	if err == nil {
		err = writeKubeconfig(state, cfg)
	}
	if err != nil {
		return append(notes, fmt.Sprintf("the agent goes on with its own copy of the node's credential: %v", err)), nil
	}
	for _, file := range []string{nodeCredentialFile, nodeCredentialFile + ".next"} {
		if err := os.Remove(filepath.Join(state, credentialsDir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return notes, err
		}
	}
	return notes, nil
}

// checkAttached says what keeps the kubelet from the proxy although it was put behind it: somebody replaced its files, or the
// node's own authorities were made anew. Nil if it is not attached at all.
func checkAttached(state string, authority *identity.Authority) []string {
	cert, key := authority.Client()
	problems, err := kubelet.Check(kubelet.Options{State: state, CA: authority.CA(), Cert: cert, Key: key})
	if err != nil && !errors.Is(err, kubelet.ErrNotAttached) {
		problems = append(problems, err.Error())
	}
	return problems
}

// CheckAttached says which kubeconfig leads to the proxy, and what keeps the kubelet from it. kubelet.ErrNotAttached if it is not
// behind the proxy.
func CheckAttached(state string) (kubeconfig string, problems []string, err error) {
	at, err := kubelet.Read(state)
	if err != nil {
		return "", nil, err
	}
	authority, err := identity.Load(filepath.Join(state, tlsDir))
	if err != nil {
		return at.Kubeconfig, []string{err.Error()}, nil
	}
	return at.Kubeconfig, checkAttached(state, authority), nil
}

// AskProxy asks the proxy for this node's Node as the kubelet does, and says where the answer is from: "" for the API server.
func AskProxy(ctx context.Context, state, version string) (from string, err error) {
	at, err := kubelet.Read(state)
	if err != nil {
		return "", err
	}
	cfg, err := kube.Load(at.Kubeconfig)
	if err != nil {
		return "", err
	}
	user, err := cfg.CertificateUser()
	if err != nil {
		return "", err
	}
	node, _ := kube.NodeOf(user)
	client := kube.New(cfg, userAgent(version))
	defer client.Close()
	warnings, err := client.Warnings(ctx, "/api/v1/nodes/"+node)
	if err != nil {
		return "", fmt.Errorf("ask the proxy at %s: %w", at.Server, err)
	}
	if len(warnings) > 0 {
		from = ", from what it kept: " + strings.Join(warnings, "; ")
	}
	return from, nil
}
