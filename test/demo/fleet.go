package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/test/lab"
)

// example is the fleet repo that the demo copies, below the top folder.
const example = "examples/fleet-repo"

// Folders of the demo.
func (d *demo) keys() string { return filepath.Join(d.dir, "keys") }
func (d *demo) work() string { return filepath.Join(d.dir, "fleet") }
func (d *demo) git() string  { return filepath.Join(d.dir, "git") }
func (d *demo) bare() string { return filepath.Join(d.git(), "fleet.git") }

// makeFleet copies the example fleet, gives its people fresh keys, and puts it on a Git server, signed.
func (d *demo) makeFleet(ctx context.Context) error {
	d.step("A fleet repo, signed with fresh keys, on a Git server that checks pushes")
	if err := os.CopyFS(d.work(), os.DirFS(example)); err != nil {
		return fmt.Errorf("copy the example fleet: %w", err)
	}
	people, err := d.makeKeys(ctx)
	if err != nil {
		return err
	}
	d.say("The fleet is %s. %d people got a key of their own in trust/allowed_signers;", example, len(people))
	d.say("trust/policy.json says who may change what. Nodes poll every two seconds here, rather than every minute.")
	if err := d.edit("fleet.cue", `pollInterval: "1m"`, `pollInterval: "2s"`); err != nil {
		return err
	}
	if err := d.writeGitConfig(); err != nil {
		return err
	}
	if err := d.startGitServer(ctx); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"cue", "vet", "-c", "./..."},
		{"holdfast", "vet"},
		{"git", "init", "--quiet"},
		{"git", "add", "."},
		{"git", "commit", "--quiet", "-S", "-m", "Kelp Markets' fleet"},
		{"git", "remote", "add", "origin", d.url},
		{"git", "push", "--quiet", "--set-upstream", "origin", "main"},
	} {
		if _, err := d.run(ctx, d.work(), argv...); err != nil {
			return err
		}
	}
	if d.anchor, err = d.revision(ctx, "HEAD"); err != nil {
		return err
	}
	d.shown("the server's pre-receive hook ran cue vet, holdfast vet, verify and diff, and took the push")
	d.say("This first commit is the anchor, which nodes are told at enrolment: %s", d.anchor)
	return nil
}

// makeKeys makes an SSH key for each principal of trust/policy.json and writes trust/allowed_signers.
func (d *demo) makeKeys(ctx context.Context) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(d.work(), "trust", "policy.json"))
	if err != nil {
		return nil, err
	}
	var policy struct {
		Roles map[string]struct{ Principals []string }
	}
	if err := json.Unmarshal(data, &policy); err != nil {
		return nil, err
	}
	var people []string
	for _, role := range policy.Roles {
		people = append(people, role.Principals...)
	}
	slices.Sort(people)
	people = slices.Compact(people)
	if err := os.MkdirAll(d.keys(), 0o700); err != nil {
		return nil, err
	}
	var signers bytes.Buffer
	for _, person := range people {
		key := filepath.Join(d.keys(), short(person))
		if _, err := d.quiet(ctx, d.dir, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", person, "-f", key); err != nil {
			return nil, err
		}
		public, err := os.ReadFile(key + ".pub")
		if err != nil {
			return nil, err
		}
		fields := strings.Fields(string(public))
		fmt.Fprintf(&signers, "%s namespaces=\"git,holdfast-*\" %s %s\n", person, fields[0], fields[1])
	}
	return people, os.WriteFile(filepath.Join(d.work(), "trust", "allowed_signers"), signers.Bytes(), 0o644)
}

// short is a person's name before the @.
func short(person string) string {
	name, _, _ := strings.Cut(person, "@")
	return name
}

// writeGitConfig makes Git act as alice, and not as whoever runs the demo.
func (d *demo) writeGitConfig() error {
	config := fmt.Sprintf(`[user]
	name = Alice
	email = alice@kelp.example
	signingKey = %s
[init]
	defaultBranch = main
[gpg]
	format = ssh
[gpg "ssh"]
	allowedSignersFile = %s
[safe]
	directory = *
`, filepath.Join(d.keys(), "alice"), filepath.Join(d.work(), "trust", "allowed_signers"))
	file := filepath.Join(d.dir, "gitconfig")
	d.env = append(d.env, "GIT_CONFIG_GLOBAL="+file, "GIT_CONFIG_NOSYSTEM=1", "GIT_SSL_CAINFO="+d.ca())
	return os.WriteFile(file, []byte(config), 0o600)
}

// as makes a git command act as another person.
func (d *demo) as(person string, argv ...string) []string {
	return append([]string{"git", "-c", "user.name=" + person, "-c", "user.email=" + person + "@kelp.example",
		"-c", "user.signingKey=" + filepath.Join(d.keys(), person)}, argv...)
}

// startGitServer makes an empty repository with the example's pre-receive hook and serves it.
func (d *demo) startGitServer(ctx context.Context) error {
	if _, err := d.quiet(ctx, d.dir, "git", "init", "--quiet", "--bare", "--initial-branch=main", d.bare()); err != nil {
		return err
	}
	hook, err := os.ReadFile(filepath.Join(d.work(), "hooks", "pre-receive"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.bare(), "hooks", "pre-receive"), hook, 0o755); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	line, err := d.lineAddress()
	if err != nil {
		return err
	}
	server, err := d.lab.Run(lab.Command{Name: "git-server", Path: self, Args: []string{gitServerArg, d.git(), line}})
	if err != nil {
		return err
	}
	return server.WaitReady(ctx, func(context.Context) error {
		urls, err := os.ReadFile(filepath.Join(d.git(), gitURLFile))
		if err != nil {
			return err
		}
		people, nodes, _ := strings.Cut(string(urls), "\n")
		d.url, d.lineURL = people+"/fleet.git", nodes+"/fleet.git"
		return nil
	})
}

// edit replaces text in a file of the work tree; that it is not there is an error.
func (d *demo) edit(name, old, new string) error {
	file := filepath.Join(d.work(), name)
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !bytes.Contains(data, []byte(old)) {
		return fmt.Errorf("edit %s: there is no %q", name, old)
	}
	return os.WriteFile(file, bytes.Replace(data, []byte(old), []byte(new), 1), 0o644)
}

// change edits a file as a person would, and shows what changed.
func (d *demo) change(ctx context.Context, name, old, new string) error {
	if err := d.edit(name, old, new); err != nil {
		return err
	}
	_, err := d.run(ctx, d.work(), "git", "--no-pager", "diff", "--unified=0", "--no-color", "--", name)
	return err
}

// revision gives the commit id of a name in the work tree.
func (d *demo) revision(ctx context.Context, name string) (string, error) {
	out, err := d.quiet(ctx, d.work(), "git", "rev-parse", "--verify", name+"^{commit}")
	return strings.TrimSpace(out), err
}
