package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/reconciler/hub"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// maxPools is how many pools' plans the hub remembers: more than any fleet has.
const maxPools = 100_000

// options are the flags of run.
type options struct {
	repo, branch, anchor, repoAuth, ca, state string
	kubeconfig, namespace                     string
	listen, cert, key                         string
	logLevel, logFormat                       string
	pollInterval                              time.Duration
	leaderElect                               bool
}

func newRunCommand(env *cli.Env) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "run --repo URL --branch BRANCH --anchor COMMIT",
		Short: "Be the hub of this cluster",
		Long: `Runs until SIGTERM. Several may run: one leads, the others stand by.

The anchor is a commit id that somebody you trust gave you by another way than the Git server: everything this hub will ever
believe descends from it. What it accepted last is kept in the ConfigMap holdfast-hub-state of its namespace. To start with
another anchor is to enrol anew.`,
		Example: `  holdfast-hub run --repo https://git.example.com/fleet --branch main \
      --anchor 4f0c5b1d2a7e9c3b8d6f1e0a5c4b3d2e1f0a9b8c --repo-auth /etc/holdfast/repo-auth
  holdfast-hub run --kubeconfig hub.kubeconfig --namespace holdfast-system --repo git@git.example.com:fleet --branch main \
      --anchor 4f0c5b1d2a7e9c3b8d6f1e0a5c4b3d2e1f0a9b8c --repo-auth deploy-key.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logger(env.Err, o.logLevel, o.logFormat)
			if err != nil {
				return cli.Usage(err)
			}
			return run(cmd, o, log)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.repo, "repo", "", "`URL` of the fleet repo: https, ssh or user@host:path")
	f.StringVar(&o.branch, "branch", "main", "`branch` to follow")
	f.StringVar(&o.anchor, "anchor", "", "`commit` to start believing from, got out of band: 40 hex digits")
	f.StringVar(&o.repoAuth, "repo-auth", "", "`file` or folder with the Git server's credentials: YAML, or one file a field as a mounted Secret has them (username, password, bearerToken, identity, identityPassphrase, knownHosts, ca, proxy)")
	f.StringVar(&o.ca, "ca", "", "`file` with the certificates of the Git server's CA")
	f.StringVar(&o.state, "state", "/var/lib/holdfast-hub", "`folder` for the clone of the fleet repo; it may be lost")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig `file`; without it the hub uses its pod's service account")
	f.StringVar(&o.namespace, "namespace", "holdfast-system", "`namespace` of the hub's state and lease")
	f.StringVar(&o.listen, "listen", ":9443", "`host:port` of /healthz, /readyz and /metrics, always over TLS")
	f.StringVar(&o.cert, "tls-cert", "", "serving certificate `file`, read again when it changes; without it one is made at start")
	f.StringVar(&o.key, "tls-key", "", "serving key `file`")
	f.DurationVar(&o.pollInterval, "poll-interval", 30*time.Second, "mean `time` between two polls of the fleet repo")
	f.BoolVar(&o.leaderElect, "leader-elect", true, "take turns with other hubs; false if this is known to be the only one")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	return cmd
}

func (o options) validate() error {
	switch {
	case o.repo == "":
		return errors.New("--repo is missing: the URL of the fleet repo")
	case o.anchor == "":
		return errors.New("--anchor is missing: a commit id that somebody you trust gave you")
	case len(o.anchor) != 40 || strings.Trim(o.anchor, "0123456789abcdef") != "":
		return fmt.Errorf("--anchor %q is no whole commit id: 40 hex digits", o.anchor)
	case (o.cert == "") != (o.key == ""):
		return errors.New("--tls-cert and --tls-key belong together")
	case o.pollInterval < time.Second:
		return fmt.Errorf("--poll-interval %s is too short: at least 1s", o.pollInterval)
	}
	return nil
}

func run(cmd *cobra.Command, o options, log *slog.Logger) error {
	if err := o.validate(); err != nil {
		return cli.Usage(err)
	}
	auth, err := readAuth(o.repoAuth, o.ca)
	if err != nil {
		return cli.Usage(err)
	}
	cluster, err := clusterConfig(o.kubeconfig)
	if err != nil {
		return cli.Usage(err)
	}
	// client-go and controller-runtime log through loggers of the whole process: main is where those are set.
	klog.SetSlogLogger(log)
	ctrllog.SetLogger(logr.FromSlogHandler(log.Handler()))
	follower, err := revision.New(revision.Config{
		Source: source.Config{URL: o.repo, Branch: o.branch, Dir: filepath.Join(o.state, "repo"), Auth: auth},
		Log:    log, MaxPools: maxPools, Ahead: 32,
	})
	if err != nil {
		return cli.Usage(err)
	}
	defer follower.Close()
	if err := os.MkdirAll(o.state, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	h, err := hub.New(hub.Config{
		Cluster: cluster, Namespace: o.namespace, Follower: follower, Anchor: o.anchor, PollInterval: o.pollInterval,
		Listen: o.listen, CertFile: o.cert, KeyFile: o.key, NoLeaderElection: !o.leaderElect, Log: log,
	})
	if err != nil {
		return err
	}
	log.Info("hub starts", "version", cli.Version, "repo", o.repo, "branch", o.branch, "namespace", o.namespace, "listen", h.Address())
	return h.Run(cmd.Context())
}

// clusterConfig gives the way to the API server. The hub writes in bursts when a revision changes many nodes; how much the
// API server bears is for its own priority and fairness to say.
func clusterConfig(kubeconfig string) (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w", err)
	}
	cfg.QPS = -1
	cfg.UserAgent = "holdfast-hub/" + cli.Version
	return cfg, nil
}

// readAuth reads credentials from a YAML file, or from a folder with one file a field, as a mounted Secret has them.
func readAuth(path, ca string) (source.Auth, error) {
	var auth source.Auth
	if path != "" {
		info, err := os.Stat(path)
		if err != nil {
			return source.Auth{}, fmt.Errorf("read --repo-auth: %w", err)
		}
		if info.IsDir() {
			auth, err = readAuthFolder(path)
		} else if raw, readErr := os.ReadFile(path); readErr != nil {
			err = readErr
		} else {
			auth, err = source.ParseAuth(raw)
		}
		if err != nil {
			return source.Auth{}, fmt.Errorf("read --repo-auth %s: %w", path, err)
		}
	}
	if ca != "" {
		raw, err := os.ReadFile(ca)
		if err != nil {
			return source.Auth{}, fmt.Errorf("read --ca: %w", err)
		}
		auth.CA = string(raw)
	}
	return auth, nil
}

func readAuthFolder(dir string) (source.Auth, error) {
	var auth source.Auth
	for name, field := range map[string]*string{
		"username": &auth.Username, "password": &auth.Password, "bearerToken": &auth.BearerToken, "identity": &auth.Identity,
		"identityPassphrase": &auth.IdentityPassphrase, "knownHosts": &auth.KnownHosts, "ca": &auth.CA, "proxy": &auth.Proxy,
	} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return source.Auth{}, err
		}
		*field = string(raw)
		if name != "identity" && name != "knownHosts" && name != "ca" {
			*field = strings.TrimRight(*field, "\r\n") // a Secret made from a file ends with a newline
		}
	}
	return auth, nil
}

func logger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q is none of debug, info, warn, error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	}
	return nil, fmt.Errorf("--log-format %q is none of text, json", format)
}
