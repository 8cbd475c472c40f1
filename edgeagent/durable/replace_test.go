package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
)

// TestReplace: what is set aside is the file itself, and what takes its place has its owner and the mode that is asked for.
func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	aside := path + ".aside"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(path, []byte("theirs"), 0o640))
	if os.Getuid() == 0 {
		must(os.Chown(path, 12, 34))
	}
	before, err := os.Stat(path)
	must(err)
	for range 2 {
		must(durable.SetAside(path, aside))
	}
	must(os.WriteFile(path+".holdfast-tmp", []byte("left behind"), 0o600))
	must(durable.Replace(path, []byte("ours"), before, before.Mode().Perm()))
	now, err := os.Stat(path)
	must(err)
	kept, err := os.Stat(aside)
	must(err)
	if !os.SameFile(kept, before) || os.SameFile(now, before) || now.Mode() != before.Mode() {
		t.Errorf("%v, set aside %v", now, kept)
	}
	raw, err := os.ReadFile(path)
	must(err)
	if string(raw) != "ours" {
		t.Errorf("%q", raw)
	}
	must(durable.SetAside(path, aside)) // what is there stays
	if kept, err := os.Stat(aside); err != nil || !os.SameFile(kept, before) {
		t.Errorf("%v, %v", kept, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
	if err := durable.Replace(filepath.Join(path, "below a file"), nil, nil, 0o600); err == nil {
		t.Error("no error")
	}
}
