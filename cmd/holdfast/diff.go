package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

func newDiffCommand(env *cli.Env) *cobra.Command {
	var dir, format string
	cmd := &cobra.Command{
		Use:   "diff OLD [NEW]",
		Short: "Show which nodes a change touches, and how risky it is",
		Long: `Diff compares what two revisions come to: which nodes change, what, and how risky it is. Without NEW it compares
with the work tree. Only pools that differ are evaluated.

Risks: low, nothing that runs is touched; medium, what is scheduled next, or how the agent behaves, changes; high,
pods may be evicted, or a node leaves the fleet's care.`,
		Example: `  holdfast diff origin/main HEAD
  holdfast diff HEAD
  holdfast diff origin/main HEAD -o markdown    for a pull request`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := diff(cmd.Context(), env, dir, args)
			var ps *treeProblems
			if errors.As(err, &ps) {
				return ps.print(env)
			}
			if err != nil {
				return err
			}
			return d.print(env, format)
		},
	}
	cmd.Flags().StringVar(&dir, "repo", ".", "the fleet repo: a work tree or a bare repository")
	formatFlag(cmd, &format, "table", "json", "markdown")
	return cmd
}

// treeProblems says that one side of a diff is wrong.
type treeProblems struct {
	rev      string
	problems fleet.Problems
}

func (e *treeProblems) Error() string { return e.rev + ": " + e.problems.Error() }

func (e *treeProblems) print(env *cli.Env) error {
	err := printProblems(env, e.problems)
	return fmt.Errorf("%w in %s", err, e.rev)
}

// diffResult is what diff -o json prints.
type diffResult struct {
	Old     string        `json:"old"`
	New     string        `json:"new"`
	Risk    plan.Risk     `json:"risk,omitempty"`
	Pools   int           `json:"pools"`
	Nodes   int           `json:"nodes"`
	Changes []plan.Change `json:"changes"`
}

// workTree stands for the work tree where a revision is named.
const workTree = "work tree"

func diff(ctx context.Context, env *cli.Env, dir string, args []string) (*diffResult, error) {
	r, err := openRevisions(env, dir)
	if err != nil {
		return nil, err
	}
	defer r.close()
	oldTree, oldID, err := r.tree(args[0])
	if err != nil {
		return nil, err
	}
	var newTree fleet.Tree
	newID := workTree
	if len(args) == 2 {
		newTree, newID, err = r.tree(args[1])
	} else {
		var root string
		root, err = findRoot(dir)
		newTree = fleet.Dir(root)
	}
	if err != nil {
		return nil, err
	}
	inOld, inNew, err := fleet.Changed(oldTree, newTree)
	if err != nil {
		return nil, err
	}
	before, err := side(ctx, env, args[0], oldTree, inOld)
	if err != nil {
		return nil, err
	}
	after, err := side(ctx, env, newName(args), newTree, inNew)
	if err != nil {
		return nil, err
	}
	return summarise(oldID, newID, plan.Diff(before, after)), nil
}

func newName(args []string) string {
	if len(args) == 2 {
		return args[1]
	}
	return "the " + workTree
}

// side evaluates one side's pools.
func side(ctx context.Context, env *cli.Env, rev string, t fleet.Tree, names []string) ([]*plan.Pool, error) {
	if len(names) == 0 {
		return nil, nil
	}
	id, ps, err := checkTrust(t)
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, &treeProblems{rev, ps}
	}
	s := newSurveyor(env, id)
	defer s.close()
	pools, ps, err := s.pools(ctx, t, names)
	if err == nil && len(ps) > 0 {
		err = &treeProblems{rev, ps}
	}
	return pools, err
}

func summarise(oldID, newID string, changes []plan.Change) *diffResult {
	d := &diffResult{Old: oldID, New: newID, Changes: changes}
	if changes == nil {
		d.Changes = []plan.Change{}
	}
	pools := map[string]bool{}
	for _, c := range changes {
		d.Risk = d.Risk.Max(c.Risk)
		pools[c.Pool] = true
		if c.Node != "" {
			d.Nodes++
		}
	}
	d.Pools = len(pools)
	return d
}
