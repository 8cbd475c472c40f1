package kubelet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
)

// Attach puts the kubelet behind the proxy, or goes on with it where it was interrupted. Done again it brings the files up to date:
// what somebody else put in place meanwhile is kept in place of what was there before. Warnings say what will be missing.
func Attach(o Options) (warnings []string, err error) {
	if o.Step == nil {
		o.Step = func(string) {}
	}
	r, err := load(o.State)
	switch {
	case errors.Is(err, ErrNotAttached):
		if r, err = o.inspect(); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case !r.Files.same(o.Files):
		return nil, fmt.Errorf("the kubelet is attached with %s, %s and %s: run holdfast-agent proxy detach before it is attached with other files", r.Files.Kubeconfig, r.Files.Config, r.Files.certDir())
	}
	if r.Server != "" && r.Server != o.Server {
		// A kubeconfig that leads to the old address would be taken for one that somebody else put there.
		return nil, fmt.Errorf("the kubelet is attached at %s: run holdfast-agent proxy detach before it is attached at %s", r.Server, o.Server)
	}
	r.Done, r.Server = false, o.Server
	o.Step("journal")
	if err := r.save(o.State); err != nil {
		return nil, err
	}
	if warnings, err = o.configure(&r); err != nil {
		return nil, fmt.Errorf("change the kubelet's configuration: %w", err)
	}
	if err := o.connect(r); err != nil {
		return nil, fmt.Errorf("replace the kubelet's kubeconfig: %w", err)
	}
	if err := o.retire(&r); err != nil {
		return nil, fmt.Errorf("move the kubelet's certificate aside: %w", err)
	}
	r.Done = true
	o.Step("done")
	return warnings, r.save(o.State)
}

// inspect says what there is to be done on a host where nothing was done yet, and changes nothing.
func (o Options) inspect() (record, error) {
	r := record{Files: o.Files}
	var err error
	if r.Kubeconfig, err = realPath(o.Files.Kubeconfig); err != nil {
		return r, err
	}
	raw, err := os.ReadFile(r.Kubeconfig)
	if err != nil {
		return r, err
	}
	if leadsTo(raw, o.Server) {
		return r, fmt.Errorf("%s leads to a Holdfast proxy already, of which %s knows nothing: put %s back in its place first", r.Kubeconfig, o.State, r.Kubeconfig+aside)
	}
	given := o.Files.Config
	if given == "" {
		given = DefaultConfig
	}
	switch r.Config, err = realPath(given); {
	case errors.Is(err, fs.ErrNotExist) && o.Files.Config == "":
		r.Config = ""
	case err != nil:
		return r, err
	default:
		raw, err := os.ReadFile(r.Config)
		if err == nil {
			_, err = setRotate(raw, false)
		}
		if err != nil {
			return r, fmt.Errorf("%s: %w", r.Config, err)
		}
	}
	if current := filepath.Join(o.Files.certDir(), currentCert); exists(current) {
		if r.Current, err = filepath.Abs(current); err != nil {
			return r, err
		}
	}
	for _, path := range []string{r.Kubeconfig, r.Config, r.Current} {
		if path != "" && exists(path+aside) {
			return r, fmt.Errorf("%s is there, of an enrolment whose state was lost: put it back in place of %s, or remove it", path+aside, path)
		}
	}
	return r, nil
}

func realPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// configure turns the kubelet's own renewal of certificates off.
func (o Options) configure(r *record) ([]string, error) {
	if r.Config == "" {
		return []string{fmt.Sprintf("there is no %s: make sure that the kubelet runs with rotateCertificates: false, or name its configuration with --kubelet-config", DefaultConfig)}, nil
	}
	raw, err := os.ReadFile(r.Config)
	if err != nil {
		return nil, err
	}
	c, err := parseConfig(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Config, err)
	}
	edited, err := setRotate(raw, false)
	if err != nil || edited == nil {
		return c.warnings(r.Config), err
	}
	// What is there says true: the kubelet's own, or what somebody put in place since.
	info, err := os.Stat(r.Config)
	if err != nil {
		return nil, err
	}
	r.Wrote = digest(edited)
	o.Step("journal config")
	if err := r.save(o.State); err != nil {
		return nil, err
	}
	o.Step("config aside")
	if err := freshAside(r.Config); err != nil {
		return nil, err
	}
	o.Step("config")
	return c.warnings(r.Config), replace(r.Config, edited, info, info.Mode().Perm())
}

// freshAside sets aside what is there now, in place of what was set aside before.
func freshAside(path string) error {
	now, err := os.Stat(path)
	if err != nil {
		return err
	}
	if old, err := os.Lstat(path + aside); err == nil && !os.SameFile(now, old) {
		if err := removeAside(path); err != nil {
			return err
		}
	}
	return setAside(path)
}

// connect has the kubelet's kubeconfig name the proxy.
func (o Options) connect(r record) error {
	want, err := o.ours(r.Kubeconfig + aside)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(r.Kubeconfig)
	if err != nil {
		return err
	}
	if bytes.Equal(raw, want) {
		return nil
	}
	info, err := os.Stat(r.Kubeconfig)
	if err != nil {
		return err
	}
	if !leadsTo(raw, r.Server) {
		o.Step("kubeconfig aside")
		if err := freshAside(r.Kubeconfig); err != nil {
			return err
		}
	}
	o.Step("kubeconfig")
	return replace(r.Kubeconfig, want, info, 0o600)
}

// retire moves the certificate aside that the kubelet renewed last.
func (o Options) retire(r *record) error {
	current := filepath.Join(r.Files.certDir(), currentCert)
	if !exists(current) {
		return nil
	}
	if r.Current == "" { // the kubelet renewed it after the first time
		var err error
		if r.Current, err = filepath.Abs(current); err != nil {
			return err
		}
		if err := r.save(o.State); err != nil {
			return err
		}
	}
	o.Step("current")
	if err := os.Rename(r.Current, r.Current+aside); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(r.Current))
}
