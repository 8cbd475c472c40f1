package kubelet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
)

// Renewed is what leaving needs to know of the node's credential if it was renewed since the kubelet had it: the kubelet's own
// copy may have expired.
type Renewed struct {
	// PEM is certificate and key. Nil: nothing was renewed.
	PEM []byte
	// Kubeconfig gives one that names the file with the newer credential. It takes the place of the kubelet's own if that is gone, or
	// names a certificate that has expired and the kubelet does not look for newer ones itself. Nil: the kubelet's own is good.
	Kubeconfig func(credential string) ([]byte, error)
	Now        time.Time
}

// Detach puts every byte back, or goes on with it where it was interrupted. Files that somebody else replaced meanwhile stay.
// Notes say what is not as it was.
func Detach(state string, renewed Renewed, step func(point string)) (notes []string, err error) {
	if step == nil {
		step = func(string) {}
	}
	r, err := load(state)
	if err != nil {
		return nil, err
	}
	d := detachment{record: r, renewed: renewed, step: step}
	// In the order that is the reverse of attaching: the kubelet can be started after each step.
	if err := errors.Join(d.revive(), d.newer()); err != nil {
		return nil, fmt.Errorf("put the kubelet's certificate back: %w", err)
	}
	if err := d.disconnect(); err != nil {
		return nil, fmt.Errorf("put the kubelet's kubeconfig back: %w", err)
	}
	if err := d.unconfigure(); err != nil {
		return nil, fmt.Errorf("put the kubelet's configuration back: %w", err)
	}
	step("forget")
	if err := os.Remove(filepath.Join(state, Journal)); err != nil {
		return nil, err
	}
	return d.notes, durable.SyncDir(state)
}

type detachment struct {
	record  record
	renewed Renewed
	step    func(string)
	notes   []string
}

func (d *detachment) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// revive puts the link to the kubelet's certificate back.
func (d *detachment) revive() error {
	path := d.record.Current
	if path == "" || !exists(path+aside) {
		return nil
	}
	d.step("current back")
	if exists(path) {
		d.note("%s was made anew meanwhile and stays", path)
		return removeAside(path)
	}
	return putBack(path)
}

// newer gives a kubelet that renews its certificate itself the one that was renewed for it, where it would have put it.
func (d *detachment) newer() error {
	if d.renewed.PEM == nil {
		return nil
	}
	dir := d.record.Files.certDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name := "kubelet-client-" + d.renewed.Now.UTC().Format("2006-01-02-15-04-05") + ".pem"
	file := filepath.Join(dir, name)
	d.step("newer")
	if err := replace(file, d.renewed.PEM, nil, 0o600); err != nil {
		return err
	}
	link := filepath.Join(dir, currentCert)
	if err := os.Remove(link + ".holdfast-tmp"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := errors.Join(os.Symlink(file, link+".holdfast-tmp"), os.Rename(link+".holdfast-tmp", link)); err != nil {
		return err
	}
	d.note("the node's certificate was renewed meanwhile: %s leads to the new one", link)
	return durable.SyncDir(filepath.Dir(link))
}

// disconnect puts the kubelet's own kubeconfig back.
func (d *detachment) disconnect() error {
	path := d.record.Kubeconfig
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	kept, ours := exists(path+aside), err == nil && leadsTo(raw, d.record.Server)
	switch {
	case !kept && !ours:
		return nil
	case kept && err == nil && !ours:
		d.step("kubeconfig kept")
		now, err1 := os.Stat(path)
		own, err2 := os.Stat(path + aside)
		if err1 == nil && err2 == nil && !os.SameFile(now, own) {
			d.note("%s was replaced meanwhile and stays", path)
		}
		return removeAside(path)
	case kept && d.renewed.Kubeconfig == nil:
		d.step("kubeconfig back")
		return putBack(path)
	case d.renewed.Kubeconfig == nil:
		return fmt.Errorf("%s is gone", path+aside)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	better, err := d.renewed.Kubeconfig(filepath.Join(d.record.Files.certDir(), currentCert))
	if err != nil {
		return err
	}
	d.step("kubeconfig made")
	d.note("the kubelet's own kubeconfig is gone, or names a certificate that has expired: %s was made anew", path)
	return errors.Join(replace(path, better, info, 0o600), removeAside(path))
}

// unconfigure has the kubelet renew its certificates again, if it did.
func (d *detachment) unconfigure() error {
	path := d.record.Config
	if path == "" {
		return nil
	}
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ours := err == nil && digest(raw) == d.record.Wrote
	switch {
	case exists(path+aside) && (err != nil || ours):
		d.step("config back")
		return putBack(path)
	case !exists(path+aside) && !ours:
		return nil
	}
	d.step("config edited back")
	// Somebody changed it since. Only the one word is ours.
	edited, err := setRotate(raw, true)
	if err != nil {
		return fmt.Errorf("%s: %w, and remove %s", path, err, path+aside)
	}
	if edited == nil {
		return removeAside(path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	d.note("%s was changed meanwhile: only rotateCertificates was put back", path)
	return errors.Join(replace(path, edited, info, info.Mode().Perm()), removeAside(path))
}
