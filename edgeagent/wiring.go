package edgeagent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
	"github.com/holdfast-dev/holdfast/edgeagent/kube"
	"github.com/holdfast-dev/holdfast/edgeagent/store"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// What else the state folder holds. The state itself is package store's.
const (
	repoFolder     = "repo" // the child that fetches may write here and nowhere else
	repoDir        = repoFolder + "/fleet.git"
	credentialsDir = "credentials"
	kubeconfigFile = "kubeconfig"
	repoAuthFile   = "repo-auth.yaml"
)

// What a node has in memory of revisions: how many pools' plans it remembers, of which it looks at one, and how many bytes it
// takes from a child, which is a pool of ten thousand nodes.
const (
	nodePools  = 2
	nodeOutput = 16 << 20
)

// newFollower gives the follower of an enrolled node.
func newFollower(state string, e store.Enrolment, log *slog.Logger) (Follower, error) {
	path := filepath.Join(state, credentialsDir, repoAuthFile)
	var auth source.Auth
	raw, err := os.ReadFile(path)
	if err == nil {
		auth, err = source.ParseAuth(raw)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("credentials of the fleet repo, %s: %w", path, err)
	}
	return followerOf(state, e, auth, log)
}

func followerOf(state string, e store.Enrolment, auth source.Auth, log *slog.Logger) (Follower, error) {
	return revision.New(followerConfig(state, e, auth, log))
}

func followerConfig(state string, e store.Enrolment, auth source.Auth, log *slog.Logger) revision.Config {
	return revision.Config{
		Source:    source.Config{URL: e.URL, Branch: e.Branch, Dir: filepath.Join(state, repoDir), Auth: auth},
		Log:       log,
		MaxPools:  nodePools,
		MaxOutput: nodeOutput,
	}
}

// newAPI gives the connection of an enrolled node to its kube-apiserver.
func newAPI(state, version string) (API, error) {
	cfg, err := kube.Load(filepath.Join(state, credentialsDir, kubeconfigFile))
	if err != nil {
		return nil, fmt.Errorf("%w; enrol again with --kubeconfig to replace it", err)
	}
	return kube.New(cfg, userAgent(version)), nil
}

func userAgent(version string) string { return "holdfast-agent/" + version }

// credentials are what is kept of the files given at enrolment.
type credentials struct {
	auth source.Auth
	kube *kube.Config // nil if standalone
}

// write puts the credentials into the state folder, readable by root alone.
func (c credentials) write(state string) error {
	dir := filepath.Join(state, credentialsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	files := map[string][]byte{}
	raw, err := yaml.Marshal(c.auth)
	if err != nil {
		return err
	}
	files[repoAuthFile] = raw
	if c.kube != nil {
		if files[kubeconfigFile], err = c.kube.Copy(); err != nil {
			return err
		}
	} else if err := os.Remove(filepath.Join(dir, kubeconfigFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for name, data := range files {
		if err := durable.WriteFile(filepath.Join(dir, name), data); err != nil {
			return err
		}
	}
	return nil
}
