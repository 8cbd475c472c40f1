package main

import (
	"bytes"
	"testing"

	"cuelang.org/go/cmd/cue/cmd"

	"github.com/holdfast-dev/holdfast/reconciler/fleet/fleettest"
)

// TestPlainCueAgrees gives every broken fleet repo to plain cue, with no network: it refuses what Holdfast refuses, but
// for what CUE cannot say.
func TestPlainCueAgrees(t *testing.T) {
	t.Setenv("CUE_REGISTRY", "none")
	for _, c := range fleettest.AllBroken() {
		t.Run(c.Name, func(t *testing.T) {
			if out, err := cueVet(t, c); (err == nil) != c.GoOnly {
				t.Fatalf("cue vet: %v\n%s", err, out)
			}
		})
	}
	t.Run("fine", func(t *testing.T) {
		if out, err := cueVet(t, fleettest.Broken{File: fleettest.Pool(1, 3)}); err != nil {
			t.Fatalf("cue vet: %v\n%s", err, out)
		}
	})
}

func cueVet(t *testing.T, b fleettest.Broken) (string, error) {
	t.Helper()
	dir := t.TempDir()
	if err := fleettest.Write(dir, b.Files()); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	c, err := cmd.New([]string{"vet", "-c", "./..."})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	err = c.Run(t.Context())
	return out.String(), err
}
