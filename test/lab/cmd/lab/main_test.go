package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestRunWithoutALab(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for _, test := range []struct {
		args   []string
		code   int
		stderr string
	}{
		{nil, 2, "usage:"},
		{[]string{"fly"}, 2, `lab: unknown command "fly"`},
		{[]string{"up", "extra"}, 2, "usage:"},
		{[]string{"up", "-name", "Lab/1"}, 1, "kube-apiserver v1.37.2 is not built: run `make lab`"},
		{[]string{"list"}, 0, ""},
		{[]string{"down"}, 0, ""},
		{[]string{"down", "none"}, 0, ""},
		{[]string{"down", ".."}, 1, `lab: lab name "..": want 1 to 16 lower-case letters, digits and dashes`},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), test.args, &stdout, &stderr)
		if code != test.code || !strings.Contains(stderr.String(), test.stderr) {
			t.Errorf("lab %v: code %d and %q, want %d and %q", test.args, code, stderr.String(), test.code, test.stderr)
		}
		if stdout.Len() > 0 {
			t.Errorf("lab %v: wrote %q", test.args, stdout.String())
		}
	}
}
