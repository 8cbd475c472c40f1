package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
)

var notInID = regexp.MustCompile(`[^a-z0-9]+`)

// fleetID gives the fleet's id: the flag, or one made of the folder's name.
func (c initCommand) fleetID() (string, error) {
	if c.fleet != "" {
		return c.fleet, nil
	}
	abs, err := filepath.Abs(c.dir)
	if err != nil {
		return "", err
	}
	id := strings.Trim(notInID.ReplaceAllString(strings.ToLower(filepath.Base(abs)), "-"), "-")
	if id == "" {
		return "", cli.Usage(fmt.Errorf("%s gives no id for the fleet: name one with --fleet", c.dir))
	}
	return id, nil
}

// trustFiles makes trust/ of the signers; none without signers.
func (c initCommand) trustFiles(id string) ([]fleet.File, error) {
	if len(c.signers) == 0 {
		return nil, nil
	}
	var signers []trust.Signer
	var names []string
	for _, arg := range c.signers {
		s, err := readSigner(arg)
		if err != nil {
			return nil, err
		}
		s.Namespaces = []string{"git", "holdfast-*"}
		if slices.Contains(names, s.Principal) {
			return nil, cli.Usage(fmt.Errorf("two signers are named %s: tell them apart with NAME=KEY.pub", s.Principal))
		}
		signers, names = append(signers, s), append(names, s.Principal)
	}
	threshold := c.threshold
	if threshold == 0 {
		threshold = min(2, max(1, len(names)-1))
	}
	if len(names) < threshold+1 {
		return nil, cli.Usage(fmt.Errorf("%s for a threshold of %d: root needs at least %d, or losing one key would lock everyone out; give --signer again, with a colleague's key or one you keep offline",
			counted(len(names), "signer"), threshold, threshold+1))
	}
	policy := trust.Policy{Fleet: id, Roles: map[string]trust.Role{
		trust.RootRole: {Principals: names, Threshold: threshold, Paths: []string{"trust/**", "policy/**", "cue.mod/**", "*.cue"}},
		"operators":    {Principals: names, Threshold: 1, Paths: []string{"**"}},
	}}
	files := trust.Files{trust.AllowedSignersFile: trust.FormatSigners(signers), trust.PolicyFile: policy.JSON()}
	if _, err := trust.Parse(files); err != nil {
		return nil, err
	}
	var out []fleet.File
	for _, name := range []string{trust.AllowedSignersFile, trust.PolicyFile} {
		out = append(out, fleet.File{Path: trust.Folder + "/" + name, Data: files[name]})
	}
	return out, nil
}

// readSigner reads [NAME=]KEY.pub.
func readSigner(arg string) (trust.Signer, error) {
	name, file, named := strings.Cut(arg, "=")
	if !named {
		file = arg
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return trust.Signer{}, fmt.Errorf("read signer: %w", err)
	}
	if strings.Contains(string(data), "PRIVATE KEY") {
		return trust.Signer{}, fmt.Errorf("%s is a private key: give the public one, %s.pub", file, file)
	}
	if !named {
		name = strings.TrimSuffix(filepath.Base(file), ".pub")
		if f := strings.Fields(string(data)); len(f) >= 3 {
			name = f[2]
		}
	}
	s, err := trust.SignerOf(name, data)
	if err != nil {
		return s, fmt.Errorf("read signer %s: %w", file, err)
	}
	return s, nil
}
