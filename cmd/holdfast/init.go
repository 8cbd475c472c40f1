package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/examples"
	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
)

func newInitCommand(env *cli.Env) *cobra.Command {
	var c initCommand
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a fleet repo, or refresh its schemas",
		Long: `Init makes a fleet repo in DIR: cue.mod with Holdfast's schemas and guardrails, so that plain cue works with no
network; the root's files; a place for your own rules; pre-merge checks for GitHub, GitLab and a Git server of your
own; and, with --signer, trust/, which says who may sign what. It changes no file that is there already.

The signers become the principals of two roles, until you change trust/policy.json: root owns trust/, policy/,
cue.mod/ and the files of the root; operators own the rest, such as pools/. Root needs more principals than its
threshold, or losing one key would lock everyone out: so give two signers at least. A signer's name is the comment in
the key file, or NAME in NAME=KEY.pub.`,
		Example: `  holdfast init fleet --signer alice.pub --signer bob.pub
  holdfast init fleet --fleet kelp --signer alice=id_ed25519.pub --signer bob=bob.pub --signer vault=cold.pub
  holdfast init fleet --update`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c.dir = args[0]
			if c.update {
				return c.refresh(env)
			}
			return c.run(env)
		},
	}
	cmd.Flags().BoolVar(&c.update, "update", false, "refresh schemas and guardrails in an existing fleet repo, and nothing else")
	cmd.Flags().StringArrayVar(&c.signers, "signer", nil, "a public key that may sign, [NAME=]KEY.pub; repeat for each")
	cmd.Flags().StringVar(&c.fleet, "fleet", "", "the fleet's id (default: DIR's name)")
	cmd.Flags().IntVar(&c.threshold, "threshold", 0, "how many principals must sign a change of root's files (default: 1 for two signers, else 2)")
	cmd.Flags().StringSliceVar(&c.checks, "checks", checkNames, "pre-merge checks to write; none: an empty list")
	cmd.MarkFlagsMutuallyExclusive("update", "signer")
	return cmd
}

type initCommand struct {
	dir, fleet string
	update     bool
	signers    []string
	threshold  int
	checks     []string
}

// checkNames name the pre-merge checks, and checkPaths where they are.
var checkNames = []string{"github", "gitlab", "pre-receive"}

var checkPaths = map[string]string{
	"github":      ".github/workflows/fleet.yaml",
	"gitlab":      ".gitlab-ci.yml",
	"pre-receive": "hooks/pre-receive",
}

// checkFiles gives the pre-merge checks that were asked for: those of the example.
func (c initCommand) checkFiles() ([]fleet.File, error) {
	var out []fleet.File
	for _, name := range c.checks {
		p, ok := checkPaths[name]
		if !ok {
			return nil, cli.Usage(fmt.Errorf("--checks %s: want some of %s", name, strings.Join(checkNames, ", ")))
		}
		data, err := examples.Checks.ReadFile("fleet-repo/" + p)
		if err != nil {
			return nil, err
		}
		out = append(out, fleet.File{Path: p, Data: data})
	}
	return out, nil
}

func (c initCommand) run(env *cli.Env) error {
	if folder := filepath.Join(c.dir, trust.Folder); len(c.signers) > 0 {
		if _, err := os.Stat(folder); err == nil {
			return fmt.Errorf("%s is there already: change it by hand, and sign the change", folder)
		}
	}
	id, err := c.fleetID()
	if err != nil {
		return err
	}
	files, err := fleet.Vendored()
	if err != nil {
		return err
	}
	files = append(files, templates(id)...)
	checks, err := c.checkFiles()
	if err != nil {
		return err
	}
	files = append(files, checks...)
	trustFiles, err := c.trustFiles(id)
	if err != nil {
		return err
	}
	wrote := 0
	for _, f := range append(files, trustFiles...) {
		made, err := writeNew(c.dir, f)
		if err != nil {
			return err
		}
		if made {
			wrote++
		}
	}
	fmt.Fprintf(env.Out, "%s: fleet %s, %s written\n", c.dir, id, counted(wrote, "file"))
	if _, err := os.Stat(filepath.Join(c.dir, trust.Folder)); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(env.Out, "nobody may sign yet: run holdfast init %s --signer KEY.pub --signer KEY2.pub\n", c.dir)
	}
	fmt.Fprintf(env.Out, nextSteps, c.dir)
	return nil
}

const nextSteps = `next:
  write %s/pools/berlin/pool.cue:

    package fleet

    pool: {
      name: "berlin"
      type: "Edge"
      nodes: "till-1": arch: "arm64"
    }

  holdfast vet, then commit with git commit -S
`

// refresh makes the vendored packages those of this program.
func (c initCommand) refresh(env *cli.Env) error {
	if _, err := os.Stat(filepath.Join(c.dir, "cue.mod", "module.cue")); err != nil {
		return fmt.Errorf("%s is not a fleet repo: %w", c.dir, err)
	}
	files, err := fleet.Vendored()
	if err != nil {
		return err
	}
	var changed []string
	for _, f := range files {
		old, err := os.ReadFile(filepath.Join(c.dir, filepath.FromSlash(f.Path)))
		if err == nil && bytes.Equal(old, f.Data) {
			continue
		}
		if err := write(c.dir, f); err != nil {
			return err
		}
		changed = append(changed, f.Path)
	}
	gone, err := c.removeOthers(files)
	if err != nil {
		return err
	}
	for _, name := range changed {
		fmt.Fprintln(env.Out, "updated", name)
	}
	for _, name := range gone {
		fmt.Fprintln(env.Out, "removed", name)
	}
	if len(changed)+len(gone) == 0 {
		fmt.Fprintln(env.Out, "up to date")
	}
	return nil
}

// removeOthers removes files that an earlier version vendored and this one does not.
func (c initCommand) removeOthers(files []fleet.File) (gone []string, err error) {
	keep := map[string]bool{}
	for _, f := range files {
		keep[f.Path] = true
	}
	err = filepath.WalkDir(filepath.Join(c.dir, filepath.FromSlash(fleet.VendorDir)), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(c.dir, name)
		if err != nil || keep[filepath.ToSlash(rel)] {
			return err
		}
		gone = append(gone, filepath.ToSlash(rel))
		return os.Remove(name)
	})
	if err != nil {
		return nil, fmt.Errorf("remove what is no longer vendored: %w", err)
	}
	return gone, nil
}

// writeNew writes a file unless it is there.
func writeNew(dir string, f fleet.File) (bool, error) {
	if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(f.Path))); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, write(dir, f)
}

func write(dir string, f fleet.File) error {
	name := filepath.Join(dir, filepath.FromSlash(f.Path))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	mode := fs.FileMode(0o644)
	if bytes.HasPrefix(f.Data, []byte("#!")) {
		mode = 0o755
	}
	if err := os.WriteFile(name, f.Data, mode); err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	return nil
}
