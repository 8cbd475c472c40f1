package main

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/edgeagent"
)

// TestEveryFieldHasAFlagAndIsDocumented: the configuration file holds nothing that a flag cannot say, and docs/agent.md names
// both.
func TestEveryFieldHasAFlagAndIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	run := newRunCommand(&cli.Env{Getenv: os.Getenv})
	fields := reflect.TypeFor[edgeagent.Config]()
	for i := range fields.NumField() {
		field, _, _ := strings.Cut(fields.Field(i).Tag.Get("json"), ",")
		flag := ""
		for _, r := range field { // logLevel is --log-level
			if r >= 'A' && r <= 'Z' {
				flag += "-"
			}
			flag += strings.ToLower(string(r))
		}
		if f := run.Flags().Lookup(flag); f == nil || !strings.Contains(f.Usage, "("+field+")") {
			t.Errorf("field %s has no flag --%s that names it", field, flag)
		}
		if !strings.Contains(string(doc), "| `"+field+"` | `--"+flag+"` |") {
			t.Errorf("docs/agent.md has no row for field %s and flag --%s", field, flag)
		}
	}
}
