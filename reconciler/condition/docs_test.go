package condition_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// constants gives the values of the exported string constants of a file.
func constants(t *testing.T, file string) map[string]bool {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, decl := range f.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.CONST {
			continue
		}
		for _, spec := range gen.Specs {
			for _, v := range spec.(*ast.ValueSpec).Values {
				if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					value, err := strconv.Unquote(lit.Value)
					if err != nil {
						t.Fatal(err)
					}
					out[value] = true
				}
			}
		}
	}
	return out
}

// TestEveryReasonIsDocumented keeps docs/reasons.md complete: every type and reason of conditions, and every reason of
// verdicts, has a row there, and there is no row for one that is gone.
func TestEveryReasonIsDocumented(t *testing.T) {
	code := constants(t, "reasons.go")
	maps.Copy(code, constants(t, "../../policy/verify/reasons.go"))
	for name := range constants(t, "../../edgeagent/store/cache/types.go") {
		if strings.HasPrefix(name, "Cache") && name != "Cached" {
			code[name] = true
		}
	}
	if len(code) < 40 {
		t.Fatalf("only %d constants were found", len(code))
	}
	raw, err := os.ReadFile("../../docs/reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\| \\S.* \\|").FindAllSubmatch(raw, -1) {
		documented[string(row[1])] = true
	}
	for _, name := range slices.Sorted(maps.Keys(code)) {
		if !documented[name] {
			t.Errorf("docs/reasons.md has no row for `%s`: say what it means and what to do", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(documented)) {
		if !code[name] {
			t.Errorf("docs/reasons.md has a row for `%s`, which no code gives", name)
		}
	}
}
