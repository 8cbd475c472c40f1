package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cuelang.org/go/cmd/cue/cmd"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Main(fleet.Children())
	testscript.Main(m, map[string]func(){"holdfast": main, "cue": func() { os.Exit(cmd.Main()) }})
}

// exampleRepo is the example's folder, for scripts that copy it: $EXAMPLE.
const exampleRepo = "../../examples/fleet-repo"

// TestScripts runs testdata/script/*.txtar, each in a folder of its own. What a command prints is compared word by word: keys are
// made from names, so commit ids are the same every time.
func TestScripts(t *testing.T) {
	example, err := filepath.Abs(exampleRepo)
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			for _, kv := range []string{"EXAMPLE=" + example, "CUE_REGISTRY=none", "HOLDFAST_PROGRESS=off", "HOME=" + e.WorkDir, "XDG_CACHE_HOME=" + filepath.Join(e.WorkDir, ".cache"), "GIT_CONFIG_NOSYSTEM=1", "TZ=Asia/Tokyo", "NO_COLOR=1", "SSH_AUTH_SOCK=",
				"GORACE=atexit_sleep_ms=0"} { // with the race detector each program would wait a second at its end
				k, v, _ := strings.Cut(kv, "=")
				e.Setenv(k, v)
			}
			e.Values[reposKey{}] = fleetRepos{}
			return nil
		},
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds:          map[string]func(*testscript.TestScript, bool, []string){"fleet": fleetCommand},
	})
}

// fleetRepos are the repositories a script has made, by name.
type fleetRepos map[string]*verifytest.Repo

// scriptTB makes a script what verifytest needs of a test.
type scriptTB struct{ ts *testscript.TestScript }

func (s scriptTB) Helper()                           {}
func (s scriptTB) Fatalf(format string, args ...any) { s.ts.Fatalf(format, args...) }
func (s scriptTB) TempDir() string                   { return s.ts.MkAbs(".") }

// fleetCommand builds signed fleet repos:
//
//	fleet new NAME                               a bare repository of verifytest's policy, whose root takes two; sets $ANCHOR
//	fleet push NAME WHO PATH=TEXT …              a commit on the branch; WHO "-" leaves it unsigned; sets $TIP
//	fleet merge NAME WHO PATH=TEXT …             a merge as a forge makes it; sets $TIP
//	fleet tree NAME WHO DIR                      a commit of every file in DIR but those of trust/; sets $TIP
//	fleet date NAME WHO DATE                     an empty commit of that date (2006-01-02T15:04:05Z, or +2h from now); sets $TIP
//	fleet restart NAME WHO                       a branch without history; sets $TIP
//	fleet key NAME WHO …                         the keys as files WHO and WHO.pub
//	fleet branch NAME REF                        sets the branch
func fleetCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fleet VERB NAME …")
	}
	verb, name, rest := args[0], args[1], args[2:]
	if verb == "new" {
		newScriptRepo(ts, name)
		return
	}
	r, ok := scriptRepos(ts)[name]
	if !ok {
		ts.Fatalf("fleet %s: no repository %q", verb, name)
	}
	switch verb {
	case "push", "merge":
		c := verifytest.Commit{Files: contents(ts, rest[1:]), Message: verb + " " + strings.Join(rest[1:], " ")}
		if verb == "merge" {
			c.Merge = []string{r.Commit(verifytest.Commit{Files: c.Files, Detached: true})}
		}
		if rest[0] != "-" {
			c.By = r.Key(rest[0])
		}
		ts.Setenv("TIP", r.Commit(c))
	case "tree":
		ts.Setenv("TIP", r.Commit(verifytest.Commit{By: r.Key(rest[0]), Files: treeFiles(ts, rest[1]), Message: "tree"}))
	case "date":
		ts.Setenv("TIP", r.Commit(verifytest.Commit{By: r.Key(rest[0]), Date: parseDate(ts, rest[1])}))
	case "restart":
		ts.Setenv("TIP", r.Commit(verifytest.Commit{Parents: []string{}, Files: r.TrustFiles(scriptPolicy()), By: r.Key(rest[0]), Message: "begin again"}))
	case "key":
		for _, who := range rest {
			r.Key(who).WriteFiles(scriptTB{ts}, ts.MkAbs("."))
		}
	case "branch":
		r.SetRef("refs/heads/"+verifytest.Branch, rest[0])
	default:
		ts.Fatalf("fleet: no verb %q", verb)
	}
}

func newScriptRepo(ts *testscript.TestScript, name string) {
	r := verifytest.New(scriptTB{ts}, verifytest.Seeded(), verifytest.At(ts.MkAbs(name)), verifytest.WithPolicy(scriptPolicy()))
	repos := scriptRepos(ts)
	repos[name] = r
	ts.Setenv("ANCHOR", r.Anchor())
}

// scriptPolicy has a root that takes two, and a team.
func scriptPolicy() trust.Policy {
	p := verifytest.DefaultPolicy()
	p.Roles[trust.RootRole] = trust.Role{Principals: []string{"alice", "bob", "carol"}, Threshold: 2, Paths: []string{"trust/**"}}
	p.Roles["berlin"] = trust.Role{Principals: []string{"dora"}, Threshold: 1, Paths: []string{"pools/berlin/**"}}
	return p
}

func scriptRepos(ts *testscript.TestScript) fleetRepos { return ts.Value(reposKey{}).(fleetRepos) }

// reposKey is where a script keeps its repositories.
type reposKey struct{}

func contents(ts *testscript.TestScript, args []string) verifytest.Files {
	files := verifytest.Files{}
	for _, a := range args {
		name, text, ok := strings.Cut(a, "=")
		if !ok {
			ts.Fatalf("%q is not PATH=TEXT", a)
		}
		files[name] = text + "\n"
	}
	return files
}

// treeFiles gives the files below dir but those of trust/, which the repository has its own of.
func treeFiles(ts *testscript.TestScript, dir string) verifytest.Files {
	files := verifytest.Files{}
	root := ts.MkAbs(dir)
	ts.Check(filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil || strings.HasPrefix(rel, "trust"+string(filepath.Separator)) {
			return err
		}
		data, err := os.ReadFile(name)
		files[filepath.ToSlash(rel)] = string(data)
		return err
	}))
	return files
}

func parseDate(ts *testscript.TestScript, text string) time.Time {
	if ahead, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(ahead)
	}
	d, err := time.Parse(time.RFC3339, text)
	ts.Check(err)
	return d
}
