package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/registry"
	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, nil)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func digest(i int) oci.Digest { return oci.SHA256.FromBytes(fmt.Append(nil, i)) }

func tagged(repository, tag string) oci.Reference {
	return oci.Reference{Registry: "reg.example", Repository: repository, Tag: tag}
}

func digested(repository string, i int) oci.Reference {
	return oci.Reference{Registry: "reg.example", Repository: repository, Digest: digest(i)}
}

var seen = registry.Tag{Digest: digest(1), MediaType: oci.MediaTypeManifest, Size: 12, Seen: time.Unix(1_800_000_000, 5).UTC(), Source: "reg.example"}

// TestKeepsAcrossRestarts: all kinds, and that none is another's.
func TestKeepsAcrossRestarts(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	s := open(t, dir)
	alice := registry.Key{1, 0, 0, 2}
	referrers := []oci.Descriptor{{MediaType: oci.MediaTypeManifest, Digest: digest(5), Size: 3, ArtifactType: "a/b", Annotations: map[string]string{"c": "d"}}}
	nothing := func(s *Store, repository string) {
		t.Helper()
		if _, err := s.Tag(ctx, tagged(repository, "v1")); !errors.Is(err, registry.ErrNotKept) {
			t.Errorf("%s: tag: %v", repository, err)
		}
		if _, _, err := s.Tags(ctx, tagged(repository, ""), "", 10); !errors.Is(err, registry.ErrNotKept) {
			t.Errorf("%s: tags: %v", repository, err)
		}
		if d, err := s.Decision(ctx, tagged(repository, ""), alice); !errors.Is(err, registry.ErrNotKept) || d != registry.Undecided {
			t.Errorf("%s: decision: %v, %v", repository, d, err)
		}
		if linked, err := s.Linked(ctx, digested(repository, 1)); linked || err != nil {
			t.Errorf("%s: link: %v, %v", repository, linked, err)
		}
		if _, err := s.Referrers(ctx, digested(repository, 1)); !errors.Is(err, registry.ErrNotKept) {
			t.Errorf("%s: referrers: %v", repository, err)
		}
	}
	nothing(s, "a/b")
	must(t, s.SetTag(ctx, tagged("a/b", "v1"), seen))
	must(t, s.SetDecision(ctx, tagged("a/b", ""), alice, registry.Allowed))
	must(t, s.SetDecision(ctx, tagged("a/b", ""), registry.Key{}, registry.Denied))
	must(t, s.Link(ctx, digested("a/b", 1)))
	must(t, s.SetReferrers(ctx, digested("a/b", 1), referrers))
	must(t, s.SetReferrers(ctx, digested("a/b", 2), []oci.Descriptor{}))
	for range 2 {
		if got, err := s.Tag(ctx, tagged("a/b", "v1")); err != nil || got != seen {
			t.Errorf("tag: %+v, %v", got, err)
		}
		for key, want := range map[registry.Key]registry.Decision{alice: registry.Allowed, {}: registry.Denied} {
			if got, err := s.Decision(ctx, tagged("a/b", ""), key); err != nil || got != want {
				t.Errorf("decision: %v, %v, want %v", got, err, want)
			}
		}
		if linked, err := s.Linked(ctx, digested("a/b", 1)); err != nil || !linked {
			t.Errorf("link: %v, %v", linked, err)
		}
		if linked, err := s.Linked(ctx, digested("a/b", 2)); err != nil || linked {
			t.Errorf("another digest's link: %v, %v", linked, err)
		}
		if got, err := s.Referrers(ctx, digested("a/b", 1)); err != nil || !reflect.DeepEqual(got, referrers) {
			t.Errorf("referrers: %+v, %v", got, err)
		}
		if got, err := s.Referrers(ctx, digested("a/b", 2)); err != nil || len(got) != 0 {
			t.Errorf("known to be none: %+v, %v", got, err)
		}
		for _, other := range []string{"a", "a/bc", "b", "a/b/c"} {
			nothing(s, other)
		}
		must(t, s.Close())
		s = open(t, dir)
	}
	must(t, s.SetDecision(ctx, tagged("a/b", ""), alice, registry.Undecided))
	if _, err := s.Decision(ctx, tagged("a/b", ""), alice); !errors.Is(err, registry.ErrNotKept) {
		t.Errorf("a decision that was taken back: %v", err)
	}
}

func TestTagsInPages(t *testing.T) {
	s, ctx := open(t, t.TempDir()), t.Context()
	var want []string
	var group sync.WaitGroup
	for i := range 500 {
		want = append(want, fmt.Sprint("v", i))
		group.Go(func() {
			if err := s.SetTag(ctx, tagged("a", fmt.Sprint("v", i)), seen); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	must(t, s.SetTag(ctx, tagged("a-b", "v1"), seen))
	slices.Sort(want)
	for _, n := range []int{1, 7, 499, 500, 501} {
		var got []string
		for after, more := "", true; more; {
			page, goesOn, err := s.Tags(ctx, tagged("a", ""), after, n)
			must(t, err)
			if len(page) > n || goesOn && len(page) != n {
				t.Fatalf("a page of %d, want %d", len(page), n)
			}
			got, more = append(got, page...), goesOn
			after = got[len(got)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %d tags", n, len(got))
		}
	}
	if page, more, err := s.Tags(ctx, tagged("a", ""), "v2~", 1); err != nil || !more || page[0] != "v3" {
		t.Errorf("after what is no tag: %v, %v, %v", page, more, err)
	}
	if page, more, err := s.Tags(ctx, tagged("a", ""), "zzz", 5); err != nil || more || len(page) != 0 {
		t.Errorf("after the last: %v, %v, %v", page, more, err)
	}
	if page, more, err := s.Tags(ctx, tagged("a", ""), "", 0); err != nil || !more || len(page) != 0 {
		t.Errorf("none: %v, %v, %v", page, more, err)
	}
}

// TestFlushes: what is known already costs nothing, and calls that come together share.
func TestFlushes(t *testing.T) {
	s, ctx := open(t, t.TempDir()), t.Context()
	commits := func() uint64 {
		n, err := bolt.Commits(s.path)
		must(t, err)
		return n
	}
	must(t, s.Link(ctx, digested("a", 1)))
	before := commits()
	for range 10 {
		must(t, s.Link(ctx, digested("a", 1)))
		must(t, s.SetDecision(ctx, tagged("a", ""), registry.Key{}, registry.Undecided))
	}
	if n := commits() - before; n != 0 {
		t.Errorf("%d commits for what was there", n)
	}
	s.writing.Lock() // the disk is busy
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			if err := s.Link(ctx, digested("a", 100+i)); err != nil {
				t.Error(err)
			}
		})
	}
	deadline := time.Now().Add(30 * time.Second)
	for waiting := 0; waiting < 50 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		waiting = len(s.queue)
		s.mu.Unlock()
	}
	s.writing.Unlock()
	group.Wait()
	if n := commits() - before; n != 1 {
		t.Errorf("%d commits for 50 calls at once, want 1", n)
	}
	for i := range 50 {
		if linked, err := s.Linked(ctx, digested("a", 100+i)); err != nil || !linked {
			t.Fatalf("%d: %v, %v", i, linked, err)
		}
	}
}

func TestBadInput(t *testing.T) {
	s, ctx := open(t, t.TempDir()), t.Context()
	for _, ref := range []oci.Reference{{}, {Registry: "a"}, {Repository: "a"}, tagged("a\x00b", "c"), {Registry: "a\x00", Repository: "b", Tag: "c", Digest: digest(1)}, {Registry: "a", Repository: "b"}} {
		if err := s.SetTag(ctx, ref, seen); err == nil {
			t.Errorf("%+v: a tag was kept", ref)
		}
		if err := s.Link(ctx, ref); err == nil && ref.Tag == "" {
			t.Errorf("%+v: a link was kept", ref)
		}
		if _, err := s.Tag(ctx, ref); err == nil || errors.Is(err, registry.ErrNotKept) {
			t.Errorf("%+v: %v", ref, err)
		}
	}
	if err := s.SetDecision(ctx, tagged("a", ""), registry.Key{}, "perhaps"); err == nil {
		t.Error("a decision that is none was kept")
	}
	if err := s.SetReferrers(ctx, digested("a", 1), make([]oci.Descriptor, 1<<17)); err == nil {
		t.Error("a list without bounds was kept")
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.SetTag(gone, tagged("a", "b"), seen); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	must(t, s.Close())
	if err := s.SetTag(ctx, tagged("a", "b"), seen); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if _, err := s.Tag(ctx, tagged("a", "b")); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if _, err := Open(dir, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	if _, err := Open(filepath.Join(dir, "nowhere"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestPrune(t *testing.T) {
	s, ctx := open(t, t.TempDir()), t.Context()
	const many = 2500 // more than one transaction's worth
	var group sync.WaitGroup
	for i := range many {
		group.Go(func() {
			if err := s.Link(ctx, digested("a", i)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for i := range 4 {
		tag := seen
		tag.Digest = digest(i)
		must(t, s.SetTag(ctx, tagged("a", fmt.Sprint("v", i)), tag))
		must(t, s.SetReferrers(ctx, digested("a", i), nil))
	}
	must(t, s.SetDecision(ctx, tagged("a", ""), registry.Key{}, registry.Allowed))
	kept := map[oci.Digest]bool{}
	for i := 0; i < many; i += 2 {
		kept[digest(i)] = true
	}
	n, err := s.Prune(ctx, func(d oci.Digest) bool { return kept[d] })
	if err != nil || n != many/2+2+2 {
		t.Errorf("forgot %d, %v", n, err)
	}
	for i := range many {
		if linked, err := s.Linked(ctx, digested("a", i)); err != nil || linked != (i%2 == 0) {
			t.Fatalf("%d: %v, %v", i, linked, err)
		}
	}
	if tags, _, err := s.Tags(ctx, tagged("a", ""), "", 10); err != nil || !slices.Equal(tags, []string{"v0", "v2"}) {
		t.Errorf("%v, %v", tags, err)
	}
	if d, err := s.Decision(ctx, tagged("a", ""), registry.Key{}); err != nil || d != registry.Allowed {
		t.Errorf("%v, %v", d, err)
	}
	if n, err := s.Prune(ctx, func(oci.Digest) bool { return true }); n != 0 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
}

// TestDamage flips bits all over the file: it always opens, no answer is ever another than the one that was kept or none, and it takes
// new records.
func TestDamage(t *testing.T) {
	ctx := t.Context()
	template := t.TempDir()
	s := open(t, template)
	var group sync.WaitGroup
	for i := range 60 {
		tag := seen
		tag.Digest = digest(i)
		group.Go(func() {
			if err := errors.Join(s.SetTag(ctx, tagged("a", fmt.Sprint("v", i)), tag), s.Link(ctx, digested("a", i)),
				s.SetDecision(ctx, tagged(fmt.Sprint("r", i), ""), registry.Key{byte(i)}, registry.Denied)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	must(t, s.Close())
	whole, err := os.ReadFile(filepath.Join(template, fileName))
	must(t, err)
	random := rand.New(rand.NewPCG(1, 2))
	kept, mended := 0, 0
	for range 60 {
		dir := t.TempDir()
		data := slices.Clone(whole)
		for range 1 + random.IntN(8) {
			data[random.IntN(len(data))] ^= 1 << random.IntN(8)
		}
		must(t, os.WriteFile(filepath.Join(dir, fileName), data, 0o600))
		s, err := Open(dir, nil)
		must(t, err)
		if _, err := os.Stat(filepath.Join(dir, damagedName)); err == nil {
			mended++
		}
		for i := range 60 {
			if tag, err := s.Tag(ctx, tagged("a", fmt.Sprint("v", i))); err == nil && tag.Digest != digest(i) {
				t.Fatalf("tag %d leads to %s", i, tag.Digest)
			} else if err == nil {
				kept++
			}
			if d, err := s.Decision(ctx, tagged(fmt.Sprint("r", i), ""), registry.Key{byte(i)}); err == nil && d != registry.Denied {
				t.Fatalf("decision %d became %v", i, d)
			}
		}
		if linked, err := s.Linked(ctx, digested("a", 1000)); err == nil && linked {
			t.Fatal("a link that nobody made")
		}
		must(t, s.SetTag(ctx, tagged("new", "v"), seen))
		if got, err := s.Tag(ctx, tagged("new", "v")); err != nil || got != seen {
			t.Fatalf("%+v, %v", got, err)
		}
		must(t, s.Close())
	}
	if mended == 0 || kept < 60*60/2 {
		t.Errorf("%d files were mended, %d of %d tags were kept", mended, kept, 60*60)
	}
}

// TestNoFile: what is no database at all is set aside as well.
func TestNoFile(t *testing.T) {
	for _, data := range []string{"", "hello", string(make([]byte, 20_000))} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, fileName), []byte(data), 0o600))
		s := open(t, dir)
		must(t, s.SetTag(t.Context(), tagged("a", "v"), seen))
	}
}
