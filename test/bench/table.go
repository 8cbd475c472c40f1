package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
	"text/tabwriter"
)

// row is one line of the table: a figure and the bound that the project promises for it.
type row struct {
	what string
	key  key
	// over, if set, divides the figure by another.
	over key
	// scale turns the benchmark's unit into the one shown.
	scale float64
	unit  string
	// limit is the largest figure that keeps the promise, or noLimit.
	limit float64
	// least, if set, is the smallest one that does; limit is not looked at then.
	least float64
}

// noLimit marks a figure that is there to be compared with its neighbours.
var noLimit = math.Inf(1)

// line is a row with its figure.
type line struct {
	row
	value float64
	found bool
}

// kept tells whether the promise is kept. A figure that is missing keeps none.
func (l line) kept() bool {
	if l.least > 0 {
		return l.found && l.value >= l.least
	}
	return l.found && l.value <= l.limit
}

func (l line) figure() string {
	if !l.found {
		return "not measured"
	}
	return strings.TrimSpace(format(l.value) + " " + l.unit)
}

func (l line) promise() string {
	switch {
	case l.least > 0:
		return strings.TrimSpace("≥ " + format(l.least) + " " + l.unit)
	case l.limit == noLimit:
		return ""
	}
	return strings.TrimSpace("≤ " + format(l.limit) + " " + l.unit)
}

func (l line) verdict() string {
	switch {
	case !l.found:
		return "missing"
	case l.limit == noLimit && l.least == 0:
		return ""
	case l.kept():
		return "yes"
	default:
		return "NO"
	}
}

// fill finds each row's figure.
func fill(rows []row, found results) []line {
	var lines []line
	for _, r := range rows {
		value, ok := found[r.key]
		if r.over != (key{}) {
			base, okBase := found[r.over]
			value, ok = value/base, ok && okBase
		}
		lines = append(lines, line{row: r, value: value * r.scale, found: ok})
	}
	return lines
}

// format shows three significant digits, and whole numbers whole.
func format(v float64) string {
	if v == float64(int64(v)) {
		return fmt.Sprintf("%d", int64(v))
	}
	return fmt.Sprintf("%.3g", v)
}

// plainTable is the table for a terminal.
func plainTable(lines []line) string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tMEASURED\tPROMISED\tKEPT")
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", l.what, l.figure(), l.promise(), l.verdict())
	}
	_ = w.Flush() // a buffer does not fail
	return b.String()
}

// markdownTable is the table for docs/benchmarks.md.
func markdownTable(lines []line) string {
	var b bytes.Buffer
	fmt.Fprintln(&b, "| what | measured | promised | kept |\n|---|---|---|---|")
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", l.what, l.figure(), l.promise(), l.verdict())
	}
	return b.String()
}

// Marks in docs/benchmarks.md between which the results stand.
const (
	beginMark = "<!-- results: written by make bench -->\n"
	endMark   = "<!-- end of results -->\n"
)

// writeResults replaces what stands between the marks of a file.
func writeResults(file, content string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin, end := bytes.Index(data, []byte(beginMark)), bytes.Index(data, []byte(endMark))
	if begin < 0 || end < begin {
		return fmt.Errorf("%s: the lines %q and %q are not there in this order", file, beginMark[:len(beginMark)-1], endMark[:len(endMark)-1])
	}
	out := append(bytes.Clone(data[:begin+len(beginMark)]), content...)
	return os.WriteFile(file, append(out, data[end:]...), 0o644)
}
