package condition_test

import (
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

func TestSetKeepsTransitionTimeWhileStatusStays(t *testing.T) {
	t0 := time.Date(2026, 5, 1, 12, 0, 0, 999, time.UTC)
	t1 := t0.Add(time.Hour)
	list := condition.Set(nil, condition.Condition{Type: "Verified", Status: condition.True, Reason: "Accepted"}, t0)
	list = condition.Set(list, condition.Condition{Type: "Ready", Status: condition.True, Reason: "Reconciled"}, t0)
	if list[0].Type != "Ready" || list[1].Type != "Verified" {
		t.Fatalf("not sorted by type: %v", list)
	}
	before := list
	list = condition.Set(list, condition.Condition{Type: "Ready", Status: condition.True, Reason: "Waiting"}, t1)
	if c, _ := condition.Get(list, "Ready"); !c.LastTransitionTime.Equal(t0.Truncate(time.Second)) || c.Reason != "Waiting" {
		t.Fatalf("got %+v", c)
	}
	list = condition.Set(list, condition.Condition{Type: "Ready", Status: condition.False, Reason: "BackingOff"}, t1)
	if c, _ := condition.Get(list, "Ready"); !c.LastTransitionTime.Equal(t1.Truncate(time.Second)) {
		t.Fatalf("got %+v", c)
	}
	if c, _ := condition.Get(before, "Ready"); c.Reason != "Reconciled" {
		t.Fatal("Set changed the list it was given")
	}
	if _, ok := condition.Get(list, "Stale"); ok {
		t.Fatal("found a condition that is not there")
	}
}
