package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"

	"github.com/holdfast-dev/holdfast/edgeagent/kube"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

var (
	commitID = regexp.MustCompile(`^[0-9a-f]{40}$`)
	nodeName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

func (o EnrollOptions) validate() error {
	var errs []error
	if !nodeName.MatchString(o.Node) || len(o.Node) > 253 {
		errs = append(errs, fmt.Errorf("node %q is not a node name: lower-case letters, digits, '-' and '.', as `kubectl get nodes` shows it", o.Node))
	}
	if !commitID.MatchString(o.Anchor) {
		errs = append(errs, fmt.Errorf("anchor %q is not a commit id of 40 hex digits: branches and tags can be moved, so they anchor nothing", o.Anchor))
	}
	return errors.Join(errs...)
}

// credentials reads the files that were named.
func (o EnrollOptions) credentials() (credentials, error) {
	var c credentials
	if o.RepoAuth != "" {
		raw, err := os.ReadFile(o.RepoAuth)
		if err != nil {
			return c, fmt.Errorf("read --repo-auth: %w", err)
		}
		if c.auth, err = source.ParseAuth(raw); err != nil {
			return c, fmt.Errorf("--repo-auth %s: %w", o.RepoAuth, err)
		}
	}
	if o.CA != "" {
		raw, err := os.ReadFile(o.CA)
		if err != nil {
			return c, fmt.Errorf("read --ca: %w", err)
		}
		c.auth.CA = string(raw)
	}
	if o.Kubeconfig != "" {
		k, err := kube.Load(o.Kubeconfig)
		if err != nil {
			return c, err
		}
		c.kube = &k
	}
	return c, nil
}

// checkNode makes sure that a kubeconfig is this node's own. A client certificate tells without asking the API server.
func (o EnrollOptions) checkNode(ctx context.Context, cfg *kube.Config) error {
	if cfg == nil {
		return nil
	}
	user, err := cfg.CertificateUser()
	if err != nil {
		return fmt.Errorf("kubeconfig %s: %w", o.Kubeconfig, err)
	}
	if user == "" {
		client := kube.New(*cfg, userAgent(o.Version))
		defer client.Close()
		if user, err = client.User(ctx); err != nil {
			return fmt.Errorf("ask the API server whom the token of %s belongs to: %w", o.Kubeconfig, err)
		}
	}
	if node, ok := kube.NodeOf(user); !ok || node != o.Node {
		return fmt.Errorf("kubeconfig %s logs in as %q, not as \"system:node:%s\": give the kubelet's kubeconfig of this node", o.Kubeconfig, user, o.Node)
	}
	return nil
}
