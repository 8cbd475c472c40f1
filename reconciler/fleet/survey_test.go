package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/fleet/fleettest"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// site writes a fleet repo of 6 nodes in 3 pools.
func site(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := fleettest.Write(dir, fleettest.Files(6, 2)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// counting counts what a survey did not find in the memo: it reads files of those pools twice.
type counting struct {
	fleet.Tree
	reads map[string]int
}

func (c *counting) Read(name string) ([]byte, error) {
	c.reads[name]++
	return c.Tree.Read(name)
}

// survey gives the digests by pool, the problems, and the pools that were evaluated.
func survey(t *testing.T, dir string, memo *fleet.Memo) (digests map[string]string, ps fleet.Problems, evaluated []string) {
	t.Helper()
	tree := &counting{fleet.Dir(dir), map[string]int{}}
	names, err := fleet.PoolNames(tree)
	if err != nil {
		t.Fatal(err)
	}
	s := &fleet.Survey{Fleet: "kelp", Memo: memo}
	digests = map[string]string{}
	ps, err = s.Pools(t.Context(), tree, names, func(p *plan.Pool) { digests[p.Name] = p.Digest() })
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range tree.reads {
		if strings.HasPrefix(name, "pools/") && n > 1 {
			evaluated = append(evaluated, filepath.Base(filepath.Dir(name)))
		}
	}
	slices.Sort(evaluated)
	return digests, ps, slices.Compact(evaluated)
}

func TestSurveyEvaluatesWhatChanged(t *testing.T) {
	dir, memo := site(t), fleet.OpenMemo(t.TempDir(), fleet.DefaultMemoBytes)
	cold, ps, evaluated := survey(t, dir, memo)
	if len(ps) > 0 || len(cold) != 3 || len(evaluated) != 3 {
		t.Fatalf("%v %v %v", cold, ps, evaluated)
	}
	warm, _, evaluated := survey(t, dir, memo)
	if len(evaluated) != 0 || fmt.Sprint(warm) != fmt.Sprint(cold) {
		t.Fatalf("evaluated %v again, or to something else", evaluated)
	}
	write(t, dir, "pools/site-00001/more.cue", "package fleet\n\npool: labels: x: \"y\"\n")
	changed, _, evaluated := survey(t, dir, memo)
	if !slices.Equal(evaluated, []string{"site-00001"}) || changed["site-00001"] == cold["site-00001"] || changed["site-00000"] != cold["site-00000"] {
		t.Fatalf("evaluated %v", evaluated)
	}
	write(t, dir, "README.md", "not read\n")
	if _, _, evaluated = survey(t, dir, memo); len(evaluated) != 0 {
		t.Fatalf("evaluated %v after a change to a file that is not needed", evaluated)
	}
	write(t, dir, "more.cue", "package fleet\n\nfleet: labels: z: \"z\"\n")
	if _, _, evaluated = survey(t, dir, memo); len(evaluated) != 3 {
		t.Fatalf("evaluated %v after a change to the root", evaluated)
	}
}

func TestSurveyRemembersProblems(t *testing.T) {
	dir, memo := site(t), fleet.OpenMemo(t.TempDir(), fleet.DefaultMemoBytes)
	write(t, dir, "pools/site-00001/bad.cue", "package fleet\n\npool: nodes: a: {}\n")
	const want = "pools/site-00001/bad.cue:3:14: pool.nodes.a.arch: field is required but not present"
	for i := range 2 {
		got, ps, evaluated := survey(t, dir, memo)
		if !strings.Contains(ps.Error(), want) || len(got) != 2 {
			t.Fatalf("%v, %v", got, ps)
		}
		if i == 1 && len(evaluated) != 0 {
			t.Fatalf("evaluated %v again", evaluated)
		}
	}
}

func TestMemoIgnoresDamage(t *testing.T) {
	dir, folder := site(t), t.TempDir()
	want, _, _ := survey(t, dir, fleet.OpenMemo(folder, fleet.DefaultMemoBytes))
	for name, damage := range map[string]func([]byte) []byte{
		"cut off": func(b []byte) []byte { return b[:len(b)/2] },
		"empty":   func([]byte) []byte { return nil },
		"a bit":   func(b []byte) []byte { b[len(b)-10] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			for _, file := range entries(t, folder) {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, damage(b), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, ps, evaluated := survey(t, dir, fleet.OpenMemo(folder, fleet.DefaultMemoBytes))
			if len(ps) > 0 || len(evaluated) != 3 || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("evaluated %v: %v", evaluated, ps)
			}
		})
	}
}

func TestMemoIsBounded(t *testing.T) {
	dir, folder := site(t), t.TempDir()
	memo := fleet.OpenMemo(folder, 1)
	survey(t, dir, memo)
	if len(entries(t, folder)) == 0 {
		t.Fatal("nothing was kept")
	}
	if err := memo.Close(); err != nil {
		t.Fatal(err)
	}
	if left := entries(t, folder); len(left) != 0 {
		t.Fatalf("%d entries are left over a bound of one byte", len(left))
	}
}

func TestMemoThatCannotBeWritten(t *testing.T) {
	dir, file := site(t), filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, ps, _ := survey(t, dir, fleet.OpenMemo(file, fleet.DefaultMemoBytes))
	if len(ps) > 0 || len(got) != 3 {
		t.Fatalf("%v %v", got, ps)
	}
}

func TestSurveyStopsWithItsContext(t *testing.T) {
	dir := site(t)
	ctx, cancel := context.WithCancel(t.Context())
	s := &fleet.Survey{Fleet: "kelp"}
	names, err := fleet.PoolNames(fleet.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := s.Pools(ctx, fleet.Dir(dir), names, func(*plan.Pool) {}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestSurveyRoot(t *testing.T) {
	for _, c := range []struct {
		name, file, text, link, want string
	}{
		{name: "fine"},
		{name: "root's own mistake", file: "more.cue", text: "package fleet\n\nfleet: lables: x: \"y\"\n", want: "more.cue:3:8: fleet.lables: field not allowed"},
		{name: "stray file", file: "pools/x.cue", text: "package fleet\n", want: "pools/x.cue: is not read: a pool's files are in a folder of its own, pools/<pool>/"},
		{name: "underscore", file: "pools/_x/pool.cue", text: "package fleet\n", want: "pools/_x: is passed over by CUE, since its name starts with an underscore: rename it"},
		{name: "link at the root", link: "x.cue", want: "x.cue: is a symbolic link, and nodes follow none: put the file itself there, or what pools share at the root"},
		{name: "link to a pool", link: "pools/x", want: "pools/x: is neither a file nor a folder: a pool is a folder of its own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := site(t)
			if c.file != "" {
				write(t, dir, c.file, c.text)
			}
			if c.link != "" {
				if err := os.Symlink("fleet.cue", filepath.Join(dir, c.link)); err != nil {
					t.Fatal(err)
				}
			}
			s := &fleet.Survey{Fleet: "kelp"}
			ps, err := s.Root(t.Context(), fleet.Dir(dir))
			if err != nil || ps.Error() != c.want {
				t.Fatalf("got  %v, %v\nwant %s", ps, err, c.want)
			}
		})
	}
}

func TestSurveyRefusesLinksInPools(t *testing.T) {
	dir := site(t)
	if err := os.Symlink("../../fleet.cue", filepath.Join(dir, "pools/site-00000/x.cue")); err != nil {
		t.Fatal(err)
	}
	_, ps, _ := survey(t, dir, nil)
	if want := "pools/site-00000/x.cue: is a symbolic link, and nodes follow none: put the file itself there, or what pools share at the root"; ps.Error() != want {
		t.Fatalf("got %v", ps)
	}
}

// TestRevisionIsTheWorkTree commits a fleet repo: the revision evaluates to what the work tree does, from the same memo.
func TestRevisionIsTheWorkTree(t *testing.T) {
	files := fleettest.Files(6, 2)
	dir, memo := site(t), fleet.OpenMemo(t.TempDir(), fleet.DefaultMemoBytes)
	want, _, _ := survey(t, dir, memo)

	repo := verifytest.New(t)
	commit := map[string]string{}
	for _, f := range files {
		commit[f.Path] = string(f.Data)
	}
	first := repo.Push("alice", commit)
	tree := revision(t, repo, first)
	names, err := fleet.PoolNames(tree)
	if err != nil || len(names) != 3 {
		t.Fatal(names, err)
	}
	got := map[string]string{}
	ps, err := (&fleet.Survey{Fleet: "kelp", Memo: memo}).Pools(t.Context(), tree, names, func(p *plan.Pool) { got[p.Name] = p.Digest() })
	if err != nil || len(ps) > 0 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v %v %v, want %v", got, ps, err, want)
	}

	second := repo.Push("alice", map[string]string{"pools/site-00001/more.cue": "package fleet\n\npool: labels: x: \"y\"\n"})
	inOld, inNew, err := fleet.Changed(tree, revision(t, repo, second))
	if err != nil || !slices.Equal(inOld, []string{"site-00001"}) || !slices.Equal(inNew, []string{"site-00001"}) {
		t.Fatalf("changed %v, %v, %v", inOld, inNew, err)
	}
	third := repo.Push("alice", map[string]string{"README.md": "x"})
	inOld, inNew, err = fleet.Changed(revision(t, repo, second), revision(t, repo, third))
	if err != nil || len(inOld)+len(inNew) > 0 {
		t.Fatalf("changed %v, %v, %v", inOld, inNew, err)
	}
}

func revision(t *testing.T, repo *verifytest.Repo, commit string) fleet.Tree {
	t.Helper()
	tree, err := fleet.Revision(repo, commit)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := fleettest.Write(dir, []fleet.File{{Path: name, Data: []byte(text)}}); err != nil {
		t.Fatal(err)
	}
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
