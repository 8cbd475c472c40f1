package source_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/source"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

// TestNothingIsLeftRunning: neither good nor failed polls leave goroutines behind. It does not run beside other tests.
func TestNothingIsLeftRunning(t *testing.T) {
	u := newUpstream(t)
	before := goleak.IgnoreCurrent()
	s, err := gitserver.Start(gitserver.Config{Root: u.root})
	if err != nil {
		t.Fatal(err)
	}
	c, err := source.New(config(t, s))
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range []gitserver.Fault{gitserver.Healthy, gitserver.Garbage, gitserver.Answer(401), gitserver.CutAfter(10), gitserver.Healthy} {
		s.Set(fault)
		if refs, err := c.Poll(t.Context()); err == nil {
			if _, err := c.Fetch(t.Context(), refs); err != nil {
				t.Fatal(err)
			}
		} else if reconciler.Reason(err) == condition.ReasonBackingOff {
			t.Fatalf("an error without a reason: %v", err)
		}
	}
	c.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before)
}
