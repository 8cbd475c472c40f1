package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

func newVetCommand(env *cli.Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "vet [DIR]",
		Short: "Check a fleet repo",
		Long: `Vet checks the fleet repo that DIR (or the current folder) is in, as it is in the work tree: everything that
"cue vet ./..." checks, and what spans pools (a node in two pools, movedTo to nowhere), the layout of the
repo, and trust/. It needs no network.

Pools are evaluated in child processes with limits of their own. Results are kept in $XDG_CACHE_HOME/holdfast, so
that only pools that changed are evaluated again.`,
		Example: `  holdfast vet
  holdfast vet ~/fleet -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, err := findRoot(dirArg(args))
			if err != nil {
				return err
			}
			result, err := vet(cmd.Context(), env, fleet.Dir(root))
			if err != nil {
				return err
			}
			return result.print(env, format)
		},
	}
	formatFlag(cmd, &format, "text", "json")
	return cmd
}

// vetResult is what vet -o json prints.
type vetResult struct {
	OK       bool           `json:"ok"`
	Fleet    string         `json:"fleet,omitempty"`
	Pools    int            `json:"pools"`
	Nodes    int            `json:"nodes"`
	Problems fleet.Problems `json:"problems"`
	outdated bool
}

func vet(ctx context.Context, env *cli.Env, t fleet.Tree) (vetResult, error) {
	id, ps, err := checkTrust(t)
	if err != nil {
		return vetResult{}, err
	}
	r := vetResult{Fleet: id, Problems: append(fleet.Problems{}, ps...)}
	names, err := fleet.PoolNames(t)
	if err != nil {
		return r, err
	}
	if r.outdated, err = outdated(t); err != nil {
		return r, err
	}
	s := newSurveyor(env, id)
	defer s.close()
	ps, err = s.Root(ctx, t)
	r.Problems = append(r.Problems, ps...)
	if err != nil || len(ps) > 0 {
		return r, err
	}
	var check fleet.Checker
	ps, err = s.Pools(ctx, t, names, func(p *plan.Pool) {
		check.Add(p)
		r.Pools++
		r.Nodes += len(p.Nodes)
	})
	r.Problems = append(r.Problems, ps...)
	if len(ps) == 0 { // else pools are missing, and what spans pools cannot be told
		r.Problems = append(r.Problems, check.Problems()...)
	}
	r.OK = len(r.Problems) == 0
	return r, err
}

// outdated says whether the vendored packages are not this program's.
func outdated(t fleet.Tree) (bool, error) {
	files, err := fleet.Vendored()
	if err != nil {
		return false, err
	}
	for _, f := range files {
		if data, err := t.Read(f.Path); err != nil || !bytes.Equal(data, f.Data) {
			return true, nil
		}
	}
	return false, nil
}

func (r vetResult) print(env *cli.Env, format string) error {
	if format == "json" {
		enc := json.NewEncoder(env.Out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			return err
		}
		if !r.OK {
			return cli.Shown(fmt.Errorf("%d problems", len(r.Problems)))
		}
		return nil
	}
	if r.outdated {
		fmt.Fprintf(env.Err, "note: %s is of another version of Holdfast; holdfast init --update refreshes it\n", fleet.VendorDir)
	}
	if !r.OK {
		return printProblems(env, r.Problems)
	}
	fmt.Fprintf(env.Out, "%s, %s: fine\n", counted(r.Pools, "pool"), counted(r.Nodes, "node"))
	return nil
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
