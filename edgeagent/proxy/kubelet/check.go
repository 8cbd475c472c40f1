package kubelet

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// Check says what somebody changed since the kubelet was attached so that it no longer uses the proxy, or will not after its
// next start. The error is ErrNotAttached if it is not attached.
func Check(o Options) (problems []string, err error) {
	r, err := load(o.State)
	if err != nil {
		return nil, err
	}
	o.Server = r.Server
	if !r.Done {
		problems = append(problems, "putting the kubelet behind the proxy was interrupted")
	}
	want, err := o.ours(r.Kubeconfig + aside)
	if err != nil {
		return nil, err
	}
	switch raw, err := os.ReadFile(r.Kubeconfig); {
	case err != nil:
		problems = append(problems, err.Error())
	case !leadsTo(raw, r.Server):
		problems = append(problems, fmt.Sprintf("%s does not lead to %s any more", r.Kubeconfig, r.Server))
	case !bytes.Equal(raw, want):
		problems = append(problems, fmt.Sprintf("%s has other certificates than this node made, or was edited", r.Kubeconfig))
	}
	if r.Config != "" {
		raw, err := os.ReadFile(r.Config)
		if err == nil {
			var c configuration
			if c, err = parseConfig(raw); err == nil && c.Rotate {
				err = fmt.Errorf("%s says rotateCertificates: true again", r.Config)
			}
		}
		if err != nil {
			problems = append(problems, err.Error())
		}
	}
	if current := filepath.Join(r.Files.certDir(), currentCert); exists(current) {
		problems = append(problems, fmt.Sprintf("%s is there again: the kubelet renewed its certificate itself", current))
	}
	return problems, nil
}
