package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

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
	return show(env.Out, format, d, d.table)
}

// changeGroup is nodes of one pool to which the same happens.
type changeGroup struct {
	plan.Change
	nodes []string
}

// where names the group's nodes: all of them if they are few.
func (g changeGroup) where(pool string) string {
	const few = 3
	switch n := len(g.nodes); {
	case n == 0:
		return pool
	case n <= few:
		return pool + ": " + strings.Join(g.nodes, ", ")
	default:
		return fmt.Sprintf("%s: %s and %d more", pool, strings.Join(g.nodes[:few], ", "), n-few)
	}
}

// line is one thing that happens, and why that is risky.
type line struct{ what, why string }

// lines says what happens to the group.
func (g changeGroup) lines() []line {
	var out []line
	if g.Action != plan.Changed {
		l := line{what: string(g.Action), why: g.Why}
		if g.Node == "" {
			l.what = "pool " + l.what
		}
		if g.From != "" {
			l.what += " from " + g.From
		}
		out = append(out, l)
	}
	for _, f := range g.Fields {
		l := line{why: f.Why}
		switch {
		case f.Old == "":
			l.what = fmt.Sprintf("+ %s: %s", f.Path, f.New)
		case f.New == "":
			l.what = fmt.Sprintf("- %s: %s", f.Path, f.Old)
		default:
			l.what = fmt.Sprintf("~ %s: %s → %s", f.Path, f.Old, f.New)
		}
		out = append(out, l)
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

func (d *diffResult) table(w io.Writer) error {
	rows := [][]string{{"RISK", "WHERE", "WHAT", "WHY"}}
	for _, g := range d.groups() {
		risk, where := string(g.Risk), g.where(g.Pool)
		for _, l := range g.lines() {
			rows = append(rows, []string{risk, where, l.what, l.why})
			risk, where = "", ""
		}
	}
	if err := columns(w, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", d.headline())
	return err
}

// columns prints rows as a table. Unlike tabwriter it leaves no blanks at the ends of lines.
func columns(w io.Writer, rows [][]string) error {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(cell)
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
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
		var what, why []string
		for _, l := range g.lines() {
			what = append(what, code(l.what))
			if l.why != "" && !slices.Contains(why, l.why) {
				why = append(why, l.why)
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", risk, code(g.where(g.Pool)), strings.Join(what, "<br>"), cell(strings.Join(why, "; ")))
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
