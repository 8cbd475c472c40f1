package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
)

// cluster are the flags of commands that talk to the cluster. They mean what they mean to kubectl.
type cluster struct {
	kubeconfig string
	context    string
}

func (c *cluster) add(f *pflag.FlagSet) {
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "kubeconfig `file`; else $KUBECONFIG or ~/.kube/config")
	f.StringVar(&c.context, "context", "", "`name` of the kubeconfig's context")
}

// config gives the way to the API server.
func (c *cluster) config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.context}).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, cli.Unreachable(errors.New("no cluster: there is no kubeconfig; give one with --kubeconfig or $KUBECONFIG"))
	}
	if err != nil {
		return nil, cli.Unreachable(fmt.Errorf("no cluster: %w", err))
	}
	cfg.QPS = -1
	cfg.UserAgent = "holdfast/" + cli.Version
	return cfg, nil
}

// reached marks err as unreachable if it is about the way to the API server, not about what was asked of it.
func reached(err error) error {
	var wire *url.Error
	var network net.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wire), errors.As(err, &network), apierrors.IsUnauthorized(err), apierrors.IsServiceUnavailable(err),
		apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), apierrors.IsTooManyRequests(err), apierrors.IsInternalError(err):
		return cli.Unreachable(err)
	}
	return err
}
