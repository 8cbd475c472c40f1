//go:build e2e

package autonomy

import (
	"strings"
	"testing"
)

// TestTheRecorderNotices: what TestHistories asserts can fail.
func TestTheRecorderNotices(t *testing.T) {
	at := func(name string, number uint64, lane string) version {
		return version{name: name, uid: "uid-" + name, mark: "m", number: number, lane: lane}
	}
	set := func(v version) step { return step{"Set", v.number, []version{v}} }
	gone := func(v version) step { return step{"Delete", v.number, []version{v}} }
	list := func(number uint64, objects ...version) step { return step{"Replace", number, objects} }
	reached := func(number uint64) step { return step{kind: "Reached", number: number} }
	a1, b2, a3, b4, a5 := at("a", 1, "left"), at("b", 2, "left"), at("a", 3, "left"), at("b", 4, "left"), at("a", 5, "right")
	truth := []step{list(1, a1), set(b2), set(a3), gone(b4), set(a5)}
	for _, c := range []struct {
		name  string
		steps []step
		wrong string // "": nothing is
	}{
		{"all of it", truth, ""},
		{"from the middle", []step{list(3, a3, b2), gone(b4), reached(4), set(a5)}, ""},
		{"nothing yet", nil, ""},
		{"a list again", []step{list(3, a3, b2), list(3, b2, a3), list(5, a5)}, ""},
		{"went back", []step{list(3, a3, b2), list(2, a1, b2)}, "went back from version 3"},
		{"a bookmark went back", []step{list(3, a3, b2), reached(2)}, "went back from version 3"},
		{"an event twice", []step{list(2, a1, b2), set(a3), set(a3)}, "went back from version 3"},
		{"an empty list", []step{list(3)}, "it lacks a at version 3"},
		{"a short list", []step{list(3, a3)}, "it lacks b at version 2"},
		{"an object twice", []step{list(3, a3, b2, a3)}, "only 2 are different"},
		{"a lost delete", []step{list(3, a3, b2), reached(4)}, "it has b at version 2, which is not there"},
		{"a lost change", []step{list(2, a1, b2), gone(b4)}, "it has a at version 1"},
		{"a ghost", []step{list(4, a3), set(at("c", 5, "left"))}, "it has c at version 5, which is not there"},
		{"another write", []step{list(1, version{name: "a", uid: "uid-a", mark: "n", number: 1, lane: "left"})}, "(write n)"},
	} {
		r := newRecorder(c.name, everything)
		r.steps = c.steps
		wrong := ""
		for _, err := range r.check(truth) {
			wrong += err.Error()
		}
		if c.wrong == "" && wrong != "" || !strings.Contains(wrong, c.wrong) {
			t.Errorf("%s: %q, want %q", c.name, wrong, c.wrong)
		}
	}
	left := newRecorder("left", func(v version) bool { return v.lane == "left" })
	left.steps = []step{list(3, a3, b2), gone(b4), gone(at("a", 5, "right"))}
	if wrong := left.check(truth); len(wrong) > 0 {
		t.Error(wrong)
	}
	left.steps = []step{list(3, a3, b2), gone(b4), reached(5)}
	if wrong := left.check(truth); len(wrong) == 0 {
		t.Error("an object that left the selection was not missed")
	}
}
