package edgeagent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/reconciler/nodepool"
)

// Defaults.
const (
	// DefaultConfigFile is read if it is there.
	DefaultConfigFile = "/etc/holdfast/agent.yaml"
	// DefaultState is the state folder.
	DefaultState = "/var/lib/holdfast"
	// DefaultAddress is where health and metrics are served.
	DefaultAddress = "127.0.0.1:9440"
	// DefaultProxyAddress is where the components of the node reach the autonomy proxy.
	DefaultProxyAddress = "127.0.0.1:6440"
	// DefaultPodAddress is where pods reach it.
	DefaultPodAddress = identity.PodAddress + ":6440"
	// NoAddress switches what is served at an address off.
	NoAddress = "off"
)

// Config is what an agent is started with: /etc/holdfast/agent.yaml, and a flag for every field. What a fleet decides
// (how often to poll, how much memory) is in the fleet repo instead; where the fleet repo is was fixed at enrolment.
type Config struct {
	// State is the state folder.
	State string `json:"state,omitempty"`
	// Parts are the parts to run; empty means all there are.
	Parts []string `json:"parts,omitempty"`
	// Address is where health and metrics are served over https, or "off".
	Address string `json:"address,omitempty"`
	// ProxyAddress is where the components of the node reach the autonomy proxy, or "off".
	ProxyAddress string `json:"proxyAddress,omitempty"`
	// PodAddress is where pods reach it, or "off". A link-local address is put on the loopback interface; another one must be on
	// an interface of the host, as that of a CNI's bridge is.
	PodAddress string `json:"podAddress,omitempty"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `json:"logLevel,omitempty"`
	// LogFormat is text or json.
	LogFormat string `json:"logFormat,omitempty"`
}

// Parts are the parts that this version has, in the order they are shown.
func Parts() []string { return []string{nodepool.Part, ProxyPart} }

// WithDefaults fills what is empty.
func (c Config) WithDefaults() Config {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&c.State, DefaultState)
	set(&c.Address, DefaultAddress)
	set(&c.ProxyAddress, DefaultProxyAddress)
	set(&c.PodAddress, DefaultPodAddress)
	set(&c.LogLevel, "info")
	set(&c.LogFormat, "text")
	if len(c.Parts) == 0 {
		c.Parts = Parts()
	}
	return c
}

// Validate says what is wrong and what would be right.
func (c Config) Validate() error {
	var errs []error
	for _, p := range c.Parts {
		if !slices.Contains(Parts(), p) {
			errs = append(errs, fmt.Errorf("parts: there is no part %q; there is %s", p, strings.Join(Parts(), ", ")))
		}
	}
	if c.Address != NoAddress {
		if _, _, err := net.SplitHostPort(c.Address); err != nil {
			errs = append(errs, fmt.Errorf("address: %q is neither host:port nor %q", c.Address, NoAddress))
		}
	}
	for field, address := range map[string]string{"proxyAddress": c.ProxyAddress, "podAddress": c.PodAddress} {
		if _, err := netip.ParseAddrPort(address); address != NoAddress && err != nil {
			errs = append(errs, fmt.Errorf("%s: %q is neither an IP address with a port nor %q", field, address, NoAddress))
		}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		errs = append(errs, fmt.Errorf("logLevel: %q is none of debug, info, warn, error", c.LogLevel))
	}
	if !slices.Contains([]string{"text", "json"}, c.LogFormat) {
		errs = append(errs, fmt.Errorf("logFormat: %q is neither text nor json", c.LogFormat))
	}
	return errors.Join(errs...)
}

// LoadConfig reads a configuration file. An unknown field is an error: a misspelt one would otherwise do nothing, quietly.
// If optional is set a missing file is an empty one.
func LoadConfig(path string, optional bool) (Config, error) {
	raw, err := os.ReadFile(path)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return Config{}, nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	var c Config
	if err := yaml.UnmarshalStrict(raw, &c); err != nil {
		return Config{}, fmt.Errorf("read configuration %s: %w", path, errors.New(strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: ")))
	}
	return c, nil
}

// WriteConfig writes a configuration as the file LoadConfig reads.
func WriteConfig(w io.Writer, c Config) error {
	raw, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, bytes.NewReader(raw))
	return err
}
