package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

func (d *diffResult) print(env *cli.Env, format string) error {
	switch {
	case format == "markdown":
		_, err := io.WriteString(env.Out, d.markdown())
		return err
	case format == "table" && len(d.Changes) == 0:
		_, err := fmt.Fprintln(env.Out, "no node changes")
		return err
	}
	return show(env.Out, format, d, func(w io.Writer) { d.table(w) })
}

// changeGroup is nodes of one pool to which the same happens.
type changeGroup struct {
	plan.Change
	nodes []string
}

// where names the group's nodes: all of them if they are few.
func (g changeGroup) where(pool string) string {
	const few = 5
	switch n := len(g.nodes); {
	case n == 0:
		return pool
	case n <= few:
		return pool + ": " + strings.Join(g.nodes, ", ")
	default:
		return fmt.Sprintf("%s: %s and %d more", pool, strings.Join(g.nodes[:few], ", "), n-few)
	}
}

// what says what happens to the group.
func (g changeGroup) what() []string {
	var out []string
	if g.Action != plan.Changed || len(g.Fields) == 0 {
		text := string(g.Action)
		if g.Node == "" {
			text = "pool " + text
		}
		if g.From != "" {
			text += " from " + g.From
		}
		out = append(out, text)
	}
	for _, f := range g.Fields {
		switch {
		case f.Old == "":
			out = append(out, fmt.Sprintf("+ %s: %s", f.Path, f.New))
		case f.New == "":
			out = append(out, fmt.Sprintf("- %s: %s", f.Path, f.Old))
		default:
			out = append(out, fmt.Sprintf("~ %s: %s → %s", f.Path, f.Old, f.New))
		}
	}
	return out
}

// groups puts nodes of a pool together to which the same happens, the riskiest first.
func (d *diffResult) groups() []changeGroup {
	var out []changeGroup
	at := map[string]int{}
	for _, c := range d.Changes {
		same := c
		same.Node = ""
		key, err := json.Marshal(struct {
			plan.Change
			IsNode bool
		}{same, c.Node != ""})
		if err != nil {
			panic(err) // strings only
		}
		i, ok := at[string(key)]
		if !ok {
			i = len(out)
			at[string(key)] = i
			out = append(out, changeGroup{Change: c})
		}
		if c.Node != "" {
			out[i].nodes = append(out[i].nodes, c.Node)
		}
	}
	order := map[plan.Risk]int{plan.RiskHigh: 0, plan.RiskMedium: 1, plan.RiskLow: 2}
	slices.SortStableFunc(out, func(a, b changeGroup) int { return cmp.Compare(order[a.Risk], order[b.Risk]) })
	return out
}

func (d *diffResult) headline() string {
	return fmt.Sprintf("%s in %s: highest risk %s", changes(d.Nodes), counted(d.Pools, "pool"), d.Risk)
}

func changes(n int) string {
	if n == 1 {
		return "1 node changes"
	}
	return fmt.Sprintf("%d nodes change", n)
}

func (d *diffResult) table(w io.Writer) {
	fmt.Fprintln(w, "RISK\tWHERE\tWHAT\tWHY")
	for _, g := range d.groups() {
		risk, where := string(g.Risk), g.where(g.Pool)
		for i, what := range g.what() {
			why := g.Why
			if i > 0 {
				risk, where, why = "", "", ""
			}
			line := risk + "\t" + where + "\t" + what
			if why != "" { // a last cell that is empty would leave blanks at the end of the line
				line += "\t" + why
			}
			fmt.Fprintln(w, line)
		}
	}
	fmt.Fprintf(w, "\n%s\n", d.headline())
}

func (d *diffResult) markdown() string {
	var b strings.Builder
	if len(d.Changes) == 0 {
		return "### Holdfast: no node changes\n"
	}
	fmt.Fprintf(&b, "### Holdfast: %s\n\n", d.headline())
	b.WriteString("| risk | where | what | why |\n|---|---|---|---|\n")
	for _, g := range d.groups() {
		risk := string(g.Risk)
		if g.Risk != plan.RiskLow {
			risk = "**" + risk + "**"
		}
		var what []string
		for _, line := range g.what() {
			what = append(what, code(line))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", risk, code(g.where(g.Pool)), strings.Join(what, "<br>"), cell(g.Why))
	}
	fmt.Fprintf(&b, "\n`%s` → `%s`\n", short(d.Old), short(d.New))
	return b.String()
}

// code makes a code span of text from the fleet repo, which may hold anything: what is in it is never markup, nor does
// it end the table's cell.
func code(text string) string {
	fence := "`"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	if len(fence) > 1 {
		text = " " + text + " "
	}
	return fence + cell(text) + fence
}

func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "\r", " ").Replace(text)
}

func short(rev string) string {
	if len(rev) == 40 {
		return rev[:12]
	}
	return rev
}
