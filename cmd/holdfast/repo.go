package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// findRoot gives the root of the fleet repo that dir is in.
func findRoot(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for at := abs; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "cue.mod")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not in a fleet repo: neither it nor a folder above has cue.mod; holdfast init DIR makes one", dir)
		}
	}
}

// dirArg gives the optional DIR argument.
func dirArg(args []string) string {
	if len(args) == 0 {
		return "."
	}
	return args[0]
}

// revisions reads revisions of the Git repository that a folder is in.
type revisions struct{ repo *source.Repo }

func openRevisions(env *cli.Env, dir string) (*revisions, error) {
	repo, err := source.OpenWorkTree(dir, env.Getenv)
	if err != nil {
		return nil, fmt.Errorf("open the Git repository of %s: %w", dir, err)
	}
	return &revisions{repo}, nil
}

func (r *revisions) close() { r.repo.Close() }

// tree gives the tree of a revision and its commit. Git's all-zero id, which hooks get for a new branch, is an empty
// tree.
func (r *revisions) tree(rev string) (fleet.Tree, string, error) {
	if rev != "" && strings.Trim(rev, "0") == "" {
		return emptyTree{}, rev, nil
	}
	commit, err := r.repo.Resolve(rev)
	if err != nil {
		return nil, "", fmt.Errorf("find revision %s: %w", rev, err)
	}
	t, err := fleet.Revision(r.repo, commit)
	return t, commit, err
}

type emptyTree struct{}

func (emptyTree) List(string) ([]fleet.Entry, error) { return nil, nil }
func (emptyTree) Read(name string) ([]byte, error) {
	return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
}

// readTrust gives what is in a tree's trust/.
func readTrust(t fleet.Tree) (trust.Files, error) {
	files, total := trust.Files{}, 0
	var walk func(dir string) error
	walk = func(dir string) error {
		entries, err := t.List(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name)
			if e.Kind == fleet.Folder {
				if err := walk(name); err != nil {
					return err
				}
				continue
			}
			if e.Kind != fleet.Regular {
				return &trust.Error{File: name, Message: "not a regular file"}
			}
			data, err := t.Read(name)
			if err != nil {
				return err
			}
			if total += len(data); total > trust.MaxBytes {
				return &trust.Error{File: trust.Folder, Message: fmt.Sprintf("more than %d bytes", trust.MaxBytes)}
			}
			files[strings.TrimPrefix(name, trust.Folder+"/")] = data
		}
		return nil
	}
	return files, walk(trust.Folder)
}

// checkTrust gives the fleet's id, and what is wrong with trust/.
func checkTrust(t fleet.Tree) (id string, ps fleet.Problems, err error) {
	files, err := readTrust(t)
	var parsed *trust.Trust
	if err == nil && len(files) == 0 {
		return "", fleet.Problems{{File: trust.Folder, Message: "is missing: holdfast init . --signer KEY.pub --signer KEY2.pub makes it"}}, nil
	}
	if err == nil {
		if parsed, err = trust.Parse(files); err == nil {
			id, err = parsed.Policy.Fleet, parsed.CheckRecovery()
		}
	}
	ps, err = trustProblems(err)
	return id, ps, err
}

// trustProblems tells what is wrong with trust/ as Problems; other errors stay what they are.
func trustProblems(err error) (fleet.Problems, error) {
	var joined interface{ Unwrap() []error }
	var one *trust.Error
	switch {
	case err == nil:
		return nil, nil
	case errors.As(err, &joined):
		var all fleet.Problems
		for _, e := range joined.Unwrap() {
			ps, err := trustProblems(e)
			if err != nil {
				return nil, err
			}
			all = append(all, ps...)
		}
		return all, nil
	case errors.As(err, &one):
		return fleet.Problems{{File: one.File, Line: one.Line, Message: one.Message}}, nil
	}
	return nil, err
}

// surveyor evaluates trees for a command.
type surveyor struct {
	*fleet.Survey
	memo     *fleet.Memo
	progress *cli.Progress
}

// newSurveyor opens the memo and starts showing progress. Close it.
func newSurveyor(env *cli.Env, fleetID string) *surveyor {
	s := &surveyor{Survey: &fleet.Survey{Fleet: fleetID}, progress: env.Progress("reading the fleet repo")}
	if dir := cacheDir(env); dir != "" {
		s.memo = fleet.OpenMemo(filepath.Join(dir, "holdfast", "evaluations"), fleet.DefaultMemoBytes)
	}
	s.Memo = s.memo
	s.Progress = func(done, total int) { s.progress.Set("evaluating %d of %d pools", done, total) }
	return s
}

// close keeps the memo within its bound. That is housekeeping: what a command found out stays true without it.
func (s *surveyor) close() {
	s.progress.Stop()
	_ = s.memo.Close()
}

// cacheDir gives the user's cache folder, as the XDG Base Directory Specification has it; "" if there is none.
func cacheDir(env *cli.Env) string {
	if dir := env.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return dir
	}
	if home := env.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache")
	}
	return ""
}

// pools evaluates the named pools, having checked the root, and gives the plans.
func (s *surveyor) pools(ctx context.Context, t fleet.Tree, names []string) ([]*plan.Pool, fleet.Problems, error) {
	if len(names) == 0 {
		return nil, nil, nil
	}
	ps, err := s.Root(ctx, t)
	if err != nil || len(ps) > 0 {
		return nil, ps, err
	}
	var out []*plan.Pool
	ps, err = s.Pools(ctx, t, names, func(p *plan.Pool) { out = append(out, p) })
	return out, ps, err
}

// printProblems prints problems for people and gives the error that says how many.
func printProblems(env *cli.Env, ps fleet.Problems) error {
	for _, p := range ps {
		fmt.Fprintln(env.Err, p)
	}
	if len(ps) == 1 {
		return errors.New("1 problem")
	}
	return fmt.Errorf("%d problems", len(ps))
}

// formatFlag adds -o with those values, the first being the default.
func formatFlag(cmd *cobra.Command, format *string, values ...string) {
	cmd.Flags().StringVarP(format, "output", "o", values[0], "output: "+strings.Join(values, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	check := cmd.PreRunE
	cmd.PreRunE = func(c *cobra.Command, args []string) error {
		for _, v := range values {
			if *format == v {
				if check != nil {
					return check(c, args)
				}
				return nil
			}
		}
		return cli.Usage(fmt.Errorf("-o %s: want %s", *format, strings.Join(values, " or ")))
	}
}
