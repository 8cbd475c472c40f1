package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/hub/api/v1alpha1"
	"github.com/holdfast-dev/holdfast/reconciler/hub/rollup"
)

// How much a table shows without --all.
const (
	shownPools   = 30
	shownTrouble = 20
)

// fleetView is what status shows. Its JSON is what -o json prints.
type fleetView struct {
	Pools []poolView `json:"pools"`
	// Sum is over all pools.
	Nodes  int32 `json:"nodes"`
	Ready  int32 `json:"ready"`
	Synced int32 `json:"synced"`
	// Notices hold for the whole fleet: why the newest revision is not in force, that Git does not answer.
	Notices []notice `json:"notices,omitempty"`
	// Trouble names the nodes that are not as they should be.
	Trouble []rollup.Trouble `json:"trouble,omitempty"`
}

// poolView is one pool.
type poolView struct {
	Name     string                   `json:"name"`
	Type     string                   `json:"type,omitempty"`
	Revision string                   `json:"revision,omitempty"`
	InUse    []v1alpha1.RevisionInUse `json:"revisionsInUse,omitempty"`
	Nodes    int32                    `json:"nodes"`
	Ready    int32                    `json:"ready"`
	Synced   int32                    `json:"synced"`
	Notices  []notice                 `json:"notices,omitempty"`
}

// notice is a condition that is not as it should be.
type notice struct {
	Type    string `json:"type"`
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// well tells whether there is nothing to say of the pool.
func (p poolView) well() bool {
	return p.Ready == p.Nodes && p.Synced == p.Nodes && len(p.Notices) == 0
}

// compose sums the fleet up. It is pure. A pool that has EdgeNodes but no NodePool is listed too.
func compose(pools []v1alpha1.NodePool, nodes []v1alpha1.EdgeNode, kubelet func(string) rollup.Kubelet) *fleetView {
	byPool := map[string][]v1alpha1.EdgeNode{}
	for _, n := range nodes {
		byPool[n.Spec.Pool] = append(byPool[n.Spec.Pool], n)
	}
	f := &fleetView{Pools: []poolView{}}
	seen := map[notice]int{}
	for i := range pools {
		p := &pools[i]
		v := poolView{Name: p.Name, Type: p.Spec.Type, Revision: p.Status.Revision}
		for _, typ := range []string{condition.SourceReady, condition.Verified, condition.PlanReady} {
			if c := meta.FindStatusCondition(p.Status.Conditions, typ); c != nil && c.Status != metav1.ConditionTrue {
				v.Notices = append(v.Notices, notice{Type: typ, Reason: c.Reason, Message: c.Message})
			}
		}
		for _, n := range v.Notices {
			seen[n]++
		}
		f.add(v, byPool[p.Name], kubelet)
		delete(byPool, p.Name)
	}
	for name, nodes := range byPool {
		f.add(poolView{Name: name, Notices: []notice{{Type: condition.PlanReady, Reason: condition.ReasonPoolAbsent, Message: "there is no NodePool of that name"}}}, nodes, kubelet)
	}
	slices.SortFunc(f.Pools, func(a, b poolView) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(f.Trouble, func(a, b rollup.Trouble) int { return cmp.Or(cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Node, b.Node)) })
	f.lift(seen, len(pools))
	return f
}

func (f *fleetView) add(v poolView, nodes []v1alpha1.EdgeNode, kubelet func(string) rollup.Kubelet) {
	sum := rollup.Of(nodes, kubelet)
	v.Nodes, v.Ready, v.Synced, v.InUse = sum.Nodes, sum.Ready, sum.Synced, sum.Revisions
	f.Nodes, f.Ready, f.Synced = f.Nodes+sum.Nodes, f.Ready+sum.Ready, f.Synced+sum.Synced
	f.Trouble = append(f.Trouble, sum.Trouble...)
	f.Pools = append(f.Pools, v)
}

// lift makes what every pool says the fleet's, said once.
func (f *fleetView) lift(seen map[notice]int, pools int) {
	if pools == 0 {
		return
	}
	for n, count := range seen {
		if count == pools {
			f.Notices = append(f.Notices, n)
		}
	}
	slices.SortFunc(f.Notices, func(a, b notice) int { return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Reason, b.Reason)) })
	for i := range f.Pools {
		f.Pools[i].Notices = slices.DeleteFunc(f.Pools[i].Notices, func(n notice) bool { return slices.Contains(f.Notices, n) })
	}
}

// viewOptions say how a table looks.
type viewOptions struct {
	all   bool
	pool  string
	color bool
}

func (o viewOptions) paint(code, text string) string {
	if !o.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// render writes the table.
func render(w io.Writer, f *fleetView, o viewOptions) error {
	var b strings.Builder
	if len(f.Pools) == 0 {
		what := "No pools yet: the hub makes them from the fleet repo. Is it running? See docs/hub.md."
		if o.pool != "" {
			what = fmt.Sprintf("There is no pool %s.", o.pool)
		}
		fmt.Fprintln(&b, what)
		_, err := io.WriteString(w, b.String())
		return err
	}
	fmt.Fprintf(&b, "%s, %s: %d ready, %d synced\n", count(len(f.Pools), "pool"), count(int(f.Nodes), "node"), f.Ready, f.Synced)
	for _, n := range f.Notices {
		fmt.Fprintf(&b, "%s %s\n", o.paint("31", n.Type+": "+n.Reason+":"), n.Message)
	}
	renderPools(&b, f, o)
	renderTrouble(&b, f, o)
	_, err := io.WriteString(w, b.String())
	return err
}

func renderPools(b *strings.Builder, f *fleetView, o viewOptions) {
	pools, hidden := f.Pools, 0
	if len(pools) > shownPools && !o.all {
		pools = slices.DeleteFunc(slices.Clone(pools), poolView.well)
		hidden = len(f.Pools) - len(pools)
	}
	if len(pools) > 0 {
		b.WriteString("\n")
		t := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
		fmt.Fprintln(t, "POOL\tTYPE\tNODES\tREADY\tSYNCED\tREVISIONS IN USE")
		for _, p := range pools {
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\n", p.Name, p.Type, p.Nodes, p.Ready, p.Synced, inUse(p.InUse))
		}
		_ = t.Flush() // a strings.Builder takes everything
	}
	if hidden > 0 {
		fmt.Fprintf(b, "… and %s with nothing wrong (--all lists them)\n", count(hidden, "pool"))
	}
	for _, p := range pools {
		for _, n := range p.Notices {
			fmt.Fprintf(b, "%s %s\n", o.paint("31", p.Name+": "+n.Type+": "+n.Reason+":"), n.Message)
		}
	}
}

func renderTrouble(b *strings.Builder, f *fleetView, o viewOptions) {
	if len(f.Trouble) == 0 {
		return
	}
	shown := f.Trouble
	if len(shown) > shownTrouble && !o.all {
		shown = shown[:shownTrouble]
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "NODE\tPOOL\tREASON\tMESSAGE")
	for _, n := range shown {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", n.Node, n.Pool, n.Reason, oneLine(n.Message))
	}
	_ = t.Flush() // a strings.Builder takes everything
	if left := len(f.Trouble) - len(shown); left > 0 {
		fmt.Fprintf(b, "… and %s in trouble (--all lists them)\n", count(left, "more node"))
	}
}

// inUse writes revisions as "4f0c5b1d2a7e (18), 3aa1… (2)", at most three.
func inUse(revisions []v1alpha1.RevisionInUse) string {
	var out []string
	for i, r := range revisions {
		if i == 3 {
			out = append(out, "…")
			break
		}
		out = append(out, fmt.Sprintf("%s (%d)", rollup.Short(r.Revision), r.Nodes))
	}
	return strings.Join(out, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// oneLine keeps a message from breaking the table.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > 160 {
		return string(runes[:159]) + "…"
	}
	return text
}
