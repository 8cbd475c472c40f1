//go:build e2e

package lease

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutation takes one rule of safety out of the code.
type mutation struct {
	rule, file, old, new string
}

var mutations = []mutation{
	{"a holder counts from before it asked", "candidate.go", "c.until = max(c.until, c.round.asked+c.p.use())", "c.until = now + c.p.use()"},
	{"a new holder counts from before it asked", "holder.go", "c.until = c.round.asked + c.p.use()", "c.until = now + c.p.use()"},
	{"a holder leaves room for drift", "params.go", "float64(p.TTL) * (1 - p.Drift)", "float64(p.TTL)"},
	{"a voter is bound by its grant", "voter.go", "return ReasonBusy", `return ""`},
	{"a voter is bound for the TTL", "voter.go", "max(s.until, now+a.TTL)", "max(s.until, now+a.TTL/2)"},
	{"a new grant is written down", "voter.go", "c.token, c.dirty = max(c.token, a.Token), true", "c.token = max(c.token, a.Token)"},
	{"a grant outlives a restart", "core.go", "slot{Grant: g, until: now + g.TTL}", "slot{Grant: g, until: now}"},
	{"a voter without a record grants nothing for a TTL", "core.go", "c.blocked = now + p.TTL", "c.blocked = now"},
	{"what is not on disk is not said", "core.go", "	if c.dirty {\n", "	if c.dirty && len(c.out) == 0 {\n"},
	{"a node's own grant counts once it is on disk", "candidate.go", "c.dirty || c.phase == idle", "c.phase == idle"},
	{"tokens rise", "voter.go", "return a.Token <= c.token || a.Token > last", "return a.Token > last"},
	{"tokens rise with the generation", "candidate.go", "max(first, c.seen, c.token, c.last)", "max(first-first, c.seen, c.token, c.last)"},
	{"an old renewal does not replace a newer grant", "voter.go", "s.Holder == from && s.Token > a.Token", "s.Holder == from && s.Token > a.Token && false"},
	{"a next grant is after one holder", "voter.go", "a.After.Holder == others[0].Holder && ", ""},
	{"a next grant is after one token", "voter.go", " && a.After.Token == others[0].Token", ""},
	{"a next grant does not end the running one", "voter.go", "if i > 0 && a.After == nil", "if i > 0"},
	{"a next grant is kept beside the running one", "voter.go", "c.slots = append(c.others(from), slot{", "c.slots = append([]slot(nil), slot{"},
	{"who has the next grants waits for the yield", "candidate.go", "c.round.after == nil || c.yielded", "true"},
	{"a holder yields when its owner has stopped", "holder.go", "c.yieldTo, c.stopping = from, true // Stopped yields\n			return", "c.yieldTo, c.stopping = from, true"},
	{"only what is over is yielded", "holder.go", "(running || c.working)", "(running && c.working)"},
	{"a yield is for one token", "holder.go", " || after.Token != m.Token", ""},
	{"a yield is from the holder", "holder.go", "after.Holder != from || ", ""},
	{"a majority is more than half", "configuration.go", "2*yes > voters", "2*yes >= voters"},
	{"older configurations are asked too", "inuse.go", "	for _, conf := range list {\n		if !conf.majority", "	for _, conf := range list[len(list)-1:] {\n		if !conf.majority"},
	{"a voter writes down which configuration was started", "voter.go", "		c.start(newest)\n", "		_ = newest\n"},
	{"a voter refuses what leaves out what was started", "voter.go", "s.Generation >= ids[0].Generation && ", "false && "},
	{"a voter refuses what counts on a retired configuration", "voter.go", "c.base.Generation > ids[0].Generation", "false"},
	{"a node without a record begins with the pool's first configuration", "inuse.go", "oldest := chain[0]", "oldest := chain[len(chain)-1]"},
	{"older configurations are retired after a complete round", "candidate.go", "		c.phase = asking\n", "		c.phase = asking\n		c.settle()\n"},
	{"gone nodes count for a while", "inuse.go", " && now >= c.goneFrom", ""},
	{"where nodes are gone every configuration is asked", "inuse.go", "	if gone {\n		return all\n	}\n", ""},
	{"an answer is to one ask", "candidate.go", "m.Nonce != c.round.nonce || ", ""},
	{"an answer is to one run of a node", "core.go", "nonce: p.Rand.Uint64() >> 1", "nonce: 0"},
	{"who was told to stop does not go on", "holder.go", "c.phase != holding || c.stopping || now", "c.phase != holding || now"},
	{"a node does not hold again before its owner has stopped", "candidate.go", "!c.unwilling && !c.working && ", "!c.unwilling && "},
	{"the owner is told to stop early enough", "core.go", "c := &Core{p: p,", "p.Stop = 0\n\tc := &Core{p: p,"},
}

// TestMutations takes each rule of safety out in turn: the simulation must notice, or for rules that it meets rarely a test of that rule. It is what
// says that they are worth something.
func TestMutations(t *testing.T) {
	only := os.Getenv("HOLDFAST_LEASE_MUTATION")
	for _, m := range mutations {
		t.Run(m.rule, func(t *testing.T) {
			if only != "" && !strings.Contains(m.rule, only) {
				t.Skip("not asked for")
			}
			dir := t.TempDir()
			path, err := filepath.Abs(m.file)
			if err != nil {
				t.Fatal(err)
			}
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(source), m.old); n != 1 {
				t.Fatalf("%s has %q %d times, want once: the mutation must follow the code", m.file, m.old, n)
			}
			mutated := filepath.Join(dir, m.file)
			if err := os.WriteFile(mutated, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutated}})
			if err != nil {
				t.Fatal(err)
			}
			list, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "lease.test")
			if err := os.WriteFile(list, overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", list, "-o", binary, ".").CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			run := exec.Command(binary, "-test.run", "^(TestHolderCounts|TestRefusals|TestYields|TestRules|TestSimulation)")
			run.Env = append(os.Environ(), "HOLDFAST_LEASE_RUNS=4000", "HOLDFAST_LEASE_SAFETY=1")
			out, err := run.CombinedOutput()
			if err == nil {
				t.Errorf("nothing noticed: %s", out)
				return
			}
			first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n    ")
			for _, line := range strings.Split(string(out), "\n") {
				if strings.Contains(line, "seed ") || strings.HasPrefix(line, "panic:") {
					first = line
					break
				}
			}
			t.Log(strings.TrimSpace(first))
		})
	}
}
