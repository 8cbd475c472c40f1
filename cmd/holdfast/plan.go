package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

func newPlanCommand(env *cli.Env) *cobra.Command {
	var p planCommand
	cmd := &cobra.Command{
		Use:   "plan [DIR] --node N | --all",
		Short: "Show what a node, or every node, must be",
		Long: `Plan shows what the fleet repo comes to for one node or for all: plain data, as a node computes it for itself.
It reads the work tree, or with --rev a revision. It does not ask whether the revision is signed: see holdfast verify.`,
		Example: `  holdfast plan --node till-1
  holdfast plan --node till-1 --rev origin/main -o yaml
  holdfast plan --all -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.run(cmd.Context(), env, dirArg(args))
		},
	}
	cmd.Flags().StringVar(&p.node, "node", "", "the node's name")
	cmd.Flags().BoolVar(&p.all, "all", false, "every node of every pool")
	cmd.Flags().StringVar(&p.rev, "rev", "", "a revision instead of the work tree")
	cmd.MarkFlagsOneRequired("node", "all")
	cmd.MarkFlagsMutuallyExclusive("node", "all")
	formatFlag(cmd, &p.format, "table", "json", "yaml")
	return cmd
}

type planCommand struct {
	node, rev, format string
	all               bool
}

func (c planCommand) run(ctx context.Context, env *cli.Env, dir string) error {
	t, done, err := c.tree(env, dir)
	if err != nil {
		return err
	}
	defer done()
	id, ps, err := checkTrust(t)
	if err != nil {
		return err
	}
	if id == "" {
		return printProblems(env, ps)
	}
	names, err := fleet.PoolNames(t)
	if err != nil {
		return err
	}
	s := newSurveyor(env, id)
	if c.all {
		pools, ps, err := s.pools(ctx, t, names)
		s.close()
		return c.showAll(env, pools, ps, err)
	}
	n, err := findNode(ctx, env, s, t, names, c.node)
	s.close()
	if err != nil {
		return err
	}
	return show(env.Out, c.format, n, func(w io.Writer) error { return columns(w, nodeTable(n)) })
}

// tree gives the tree to look at, and what to call when done with it.
func (c planCommand) tree(env *cli.Env, dir string) (fleet.Tree, func(), error) {
	if c.rev == "" {
		root, err := findRoot(dir)
		return fleet.Dir(root), func() {}, err
	}
	r, err := openRevisions(env, dir)
	if err != nil {
		return nil, nil, err
	}
	t, _, err := r.tree(c.rev)
	if err != nil {
		r.close()
		return nil, nil, err
	}
	return t, r.close, nil
}

func (c planCommand) showAll(env *cli.Env, pools []*plan.Pool, ps fleet.Problems, err error) error {
	if err != nil {
		return err
	}
	slices.SortFunc(pools, func(a, b *plan.Pool) int { return strings.Compare(a.Name, b.Name) })
	if err := show(env.Out, c.format, pools, func(w io.Writer) error { return columns(w, poolsTable(pools)) }); err != nil {
		return err
	}
	if len(ps) > 0 {
		return printProblems(env, ps)
	}
	return nil
}

// findNode evaluates pools until one has the node: first those whose name is part of the node's.
func findNode(ctx context.Context, env *cli.Env, s *surveyor, t fleet.Tree, names []string, node string) (*plan.Node, error) {
	if ps, err := s.Root(ctx, t); err != nil || len(ps) > 0 {
		return nil, cmp.Or(err, printProblems(env, ps))
	}
	unlikely := func(name string) bool { return !strings.Contains(node, name) }
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case unlikely(a) == unlikely(b):
			return 0
		case unlikely(a):
			return 1
		}
		return -1
	})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var found *plan.Node
	var moved string
	ps, err := s.Pools(ctx, t, names, func(p *plan.Pool) {
		if n := p.Node(node); n != nil && found == nil {
			found = n
			cancel() // the rest need not be evaluated
		}
		if to, ok := p.MovedTo[node]; ok {
			moved = fmt.Sprintf("; it moved from %s to %s", p.Name, to)
		}
	})
	switch {
	case found != nil:
		return found, nil
	case err != nil:
		return nil, err
	case len(ps) > 0:
		return nil, fmt.Errorf("no pool that evaluates names the node %s%s; %w", node, moved, printProblems(env, ps))
	}
	return nil, fmt.Errorf("no pool names the node %s%s", node, moved)
}

// show prints v as JSON or YAML, or calls table.
func show(w io.Writer, format string, v any, table func(io.Writer) error) error {
	switch format {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	case "yaml":
		b, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}
	return table(w)
}

func nodeTable(n *plan.Node) (rows [][]string) {
	line := func(name string, values ...string) {
		for _, v := range values {
			rows = append(rows, []string{name, v})
			name = ""
		}
	}
	line("NODE", n.Name)
	line("POOL", n.Pool)
	line("FLEET", n.Fleet)
	line("ARCH", n.Arch)
	line("LABELS", pairs(n.Labels)...)
	line("ANNOTATIONS", pairs(n.Annotations)...)
	line("TAINTS", taintTexts(n.Taints)...)
	hw := n.Hardware
	line("HARDWARE", hardwareTexts(hw)...)
	line("FACTS", pairs(hw.Facts)...)
	line("POLL", "every "+n.Agent.PollInterval.String())
	if n.Agent.Freshness > 0 {
		line("FRESHNESS", n.Agent.Freshness.String())
	}
	l := n.Agent.Limits
	line("LIMITS", fmt.Sprintf("memory %d MiB, processor time %s, repository %d MiB", l.MemoryMB, l.CPU, l.RepoMB))
	line("PROXY", proxyTexts(n.Agent.Proxy)...)
	line("DIGEST", n.Digest())
	return rows
}

func proxyTexts(p plan.Proxy) []string {
	out := []string{fmt.Sprintf("cache of at most %d MiB", p.CacheMB)}
	if len(p.NeverCache) > 0 {
		out = append(out, "never caches "+strings.Join(p.NeverCache, ", "))
	}
	if len(p.Upstreams) > 0 {
		out = append(out, "API servers "+strings.Join(p.Upstreams, ", "))
	}
	return out
}

func poolsTable(pools []*plan.Pool) [][]string {
	rows := [][]string{{"POOL", "NODE", "ARCH", "LABELS", "TAINTS", "DIGEST"}}
	for _, p := range pools {
		for _, n := range p.Nodes {
			taints := strings.Join(taintTexts(n.Taints), ",")
			if taints == "" {
				taints = "-"
			}
			rows = append(rows, []string{p.Name, n.Name, n.Arch, strconv.Itoa(len(n.Labels)), taints, strings.TrimPrefix(n.Digest(), "sha256:")[:12]})
		}
	}
	return rows
}

func pairs(m map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return out
}

func taintTexts(taints []plan.Taint) []string {
	var out []string
	for _, t := range taints {
		out = append(out, t.String())
	}
	return out
}

func hardwareTexts(h plan.Hardware) []string {
	var out []string
	for _, v := range []string{h.Vendor, h.Model} {
		if v != "" {
			out = append(out, v)
		}
	}
	if h.Serial != "" {
		out = append(out, "serial "+h.Serial)
	}
	if h.CPUs > 0 {
		out = append(out, counted(int(h.CPUs), "CPU"))
	}
	if h.MemoryMB > 0 {
		out = append(out, fmt.Sprintf("%d MiB", h.MemoryMB))
	}
	if len(out) == 0 {
		return nil
	}
	return []string{strings.Join(out, ", ")}
}
