package edgeagent

import (
	"crypto/tls"
	"path/filepath"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
)

// tlsDir is the folder, in the state folder, of the node's own authorities.
const tlsDir = "tls"

// localAuthority gives the node's own authorities. What is missing of them is made: nodes that were enrolled by an older agent
// have no key to add names with.
func localAuthority(state, node string) (*identity.Authority, error) {
	dir := filepath.Join(state, tlsDir)
	if err := identity.Make(dir, node); err != nil {
		return nil, err
	}
	return identity.Load(dir)
}

// localTLS gives what health and metrics are served with.
func localTLS(authority *identity.Authority) *tls.Config {
	conf := authority.ServerTLS()
	conf.MinVersion, conf.ClientAuth, conf.NextProtos = tls.VersionTLS13, tls.NoClientCert, []string{"http/1.1"}
	return conf
}
