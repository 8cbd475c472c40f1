package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/source/pack"
)

// Fetched says what a fetch did.
type Fetched struct {
	// Repaired says why the earlier clone was set aside; "" if it was not.
	Repaired string `json:"repaired,omitempty"`
	// Objects and Bytes are what was transferred.
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// Joined says that the clone's packs were joined into one.
	Joined bool `json:"joined,omitempty"`
}

// maxPacks is how many packs a clone may have before they are joined: a lookup asks each.
const maxPacks = 32

// fetch brings the clone to want. Whatever happens, the clone's refs name only commits all of whose objects it has.
func fetch(ctx context.Context, cfg Config, want Refs) (done Fetched, err error) {
	cfg.Limits = cfg.Limits.WithDefaults()
	unlock, err := lockClone(cfg.Dir)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	err = fetchOnce(ctx, cfg, want, &done)
	switch {
	case errors.Is(err, ErrDamaged):
		done.Repaired = err.Error()
		if err := setAside(cfg.Dir); err != nil {
			return done, storing("set the damaged clone aside", err)
		}
		err = fetchOnce(ctx, cfg, want, &done)
	case errors.Is(err, errOutgrown):
		done.Repaired = err.Error()
		err = fetchAnew(ctx, cfg, want, &done)
	}
	return done, err
}

// errOutgrown says that the pack would fit if nothing was there yet.
var errOutgrown = errors.New("the clone and what is new are over the bound together: what the branch no longer reaches is left behind")

// fetchAnew makes a second clone and puts it in the place of the first, which stays until then.
func fetchAnew(ctx context.Context, cfg Config, want Refs, done *Fetched) error {
	fresh := cfg
	fresh.Dir += ".new"
	if err := os.RemoveAll(fresh.Dir); err != nil {
		return err
	}
	err := fetchOnce(ctx, fresh, want, done)
	if err == nil {
		err = os.RemoveAll(cfg.Dir)
	}
	if err == nil {
		err = os.Rename(fresh.Dir, cfg.Dir)
	}
	return errors.Join(err, os.RemoveAll(fresh.Dir))
}

// fetchOnce is fetch without a second try.
func fetchOnce(ctx context.Context, cfg Config, want Refs, done *Fetched) (err error) {
	f := &fetcher{cfg: cfg, objects: filepath.Join(cfg.Dir, "objects"), want: want}
	if err := f.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.store.Close()) }()
	if err := f.transfer(ctx, done); err != nil {
		return err
	}
	if err := writeRefs(cfg.Dir, cfg.Branch, want); err != nil {
		return storing("store the clone's refs", err)
	}
	return f.join(ctx, done)
}

// fetcher is one fetch.
type fetcher struct {
	cfg     Config
	objects string
	want    Refs
	store   *pack.Store
	have    []string
}

// open reads what the clone has, and makes an empty one where there is none.
func (f *fetcher) open() error {
	list, err := os.ReadDir(f.cfg.Dir)
	if err != nil && !missing(err) {
		return err
	}
	if len(list) == 0 {
		if err := initClone(f.cfg.Dir, f.cfg.Branch); err != nil {
			return storing("make the clone", err)
		}
	}
	for _, name := range []string{"HEAD", "objects/pack"} {
		if _, err := os.Stat(filepath.Join(f.cfg.Dir, name)); missing(err) {
			return fmt.Errorf("%w: %s is missing", ErrDamaged, name)
		}
	}
	if err := pack.Clean(f.objects); err != nil {
		return err
	}
	refs, err := readRefs(f.cfg.Dir)
	if err != nil {
		return err
	}
	if f.store, err = pack.OpenStore(f.cfg.Limits.ObjectBytes, f.objects); err != nil {
		return err
	}
	if f.have, err = known(f.store, refs); err != nil {
		return errors.Join(err, f.store.Close())
	}
	return nil
}

// known lists commits the clone has, for the server to leave out what they reach: the refs, and ever older ancestors in
// case the branch was rewritten.
func known(s *pack.Store, refs Refs) ([]string, error) {
	var have []string
	for _, start := range []string{refs.Tip, refs.Notes} {
		for step, next := 1, start; next != "" && step <= 1<<10; step *= 2 {
			have = append(have, next)
			for range step {
				parent, err := firstParent(s, next)
				if err != nil {
					return nil, err
				}
				if next = parent; next == "" {
					break
				}
			}
		}
	}
	return have, nil
}

// transfer receives what is missing and makes it part of the clone.
func (f *fetcher) transfer(ctx context.Context, done *Fetched) error {
	var missing []string
	for _, id := range []string{f.want.Tip, f.want.Notes} {
		if id == "" {
			continue
		}
		there, err := f.has(id)
		if err != nil {
			return err
		}
		if !there && !slices.Contains(missing, id) {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		if err := f.receive(ctx, missing, done); err != nil {
			return err
		}
	}
	return f.checkTips()
}

func (f *fetcher) has(text string) (bool, error) {
	id, err := pack.ParseID(text)
	if err != nil {
		return false, fail(condition.ReasonProtocolError, "%s names %w", f.cfg.URL, err)
	}
	return f.store.Has(id)
}

// receive asks for a pack, reads it into a temporary file, and installs it if everything it points to is there.
func (f *fetcher) receive(ctx context.Context, want []string, done *Fetched) (err error) {
	size, err := pack.Size(f.objects)
	if err != nil {
		return err
	}
	r, err := parseRemote(f.cfg.URL)
	if err != nil {
		return err
	}
	server, err := newServer(f.cfg, r)
	if err != nil {
		return err
	}
	body, err := server.pack(ctx, want, f.have)
	if err != nil {
		return err
	}
	defer body.Close() // the answer was read to its end, or is of no use
	file, err := pack.Temp(f.objects)
	if err != nil {
		return storing("store the pack", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // or the next fetch does
		}
		err = errors.Join(err, file.Close())
	}()
	lim := f.cfg.Limits
	got, err := pack.Receive(ctx, body, file, pack.Bounds{
		Bytes: lim.RepoBytes - size, ObjectBytes: lim.ObjectBytes, InflatedBytes: lim.InflatedBytes, Objects: lim.Objects,
	})
	if errors.Is(err, pack.ErrNoRoom) && size > 0 {
		return errOutgrown
	}
	if err != nil {
		return f.explain(err)
	}
	done.Objects, done.Bytes = got.Len(), got.Bytes()
	if err := f.connected(want, got); err != nil {
		return err
	}
	if err := pack.Install(f.objects, file, got); err != nil {
		return storing("store the pack", err)
	}
	if err := f.store.Close(); err != nil {
		return err
	}
	f.store, err = pack.OpenStore(lim.ObjectBytes, f.objects)
	return err
}

// explain gives an error of receiving its reason.
func (f *fetcher) explain(err error) error {
	var known *Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, pack.ErrTooLarge):
		return fail(condition.ReasonTooLarge, "%s: %w", f.cfg.URL, err)
	case errors.Is(err, pack.ErrInvalid), errors.Is(err, io.ErrUnexpectedEOF):
		return fail(condition.ReasonProtocolError, "%s: %w", f.cfg.URL, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fail(condition.ReasonUnreachable, "%s: the fetch takes longer than %s", f.cfg.URL, f.cfg.Limits.FetchTimeout)
	}
	return storing("store the pack", err)
}

// connected makes sure that everything the new objects point to is in the pack or in the clone. As no pack enters
// otherwise, this holds for every object of the clone, and nothing needs to be walked.
func (f *fetcher) connected(want []string, got *pack.Received) error {
	for _, text := range want {
		id, err := pack.ParseID(text)
		if err != nil {
			return err
		}
		if _, ok := got.Kind(id); !ok {
			return fail(condition.ReasonProtocolError, "%s offers %s but does not send it", f.cfg.URL, text)
		}
	}
	for _, id := range got.Needs {
		ok, err := f.store.Has(id)
		if err != nil {
			return err
		}
		if !ok {
			return fail(condition.ReasonProtocolError, "%s sends objects that need %s but not that one: its repository is damaged or shallow", f.cfg.URL, id)
		}
	}
	return nil
}

// checkTips makes sure that what the refs will name are commits.
func (f *fetcher) checkTips() error {
	for _, text := range []string{f.want.Tip, f.want.Notes} {
		if text == "" {
			continue
		}
		id, err := pack.ParseID(text)
		if err != nil {
			return err
		}
		kind, _, err := f.store.Object(id)
		if err != nil {
			return err
		}
		if kind != pack.Commit {
			return fail(condition.ReasonProtocolError, "%s has a %s, %s, where a commit belongs", f.cfg.URL, kind, text)
		}
	}
	return nil
}

// join keeps the number of packs small.
func (f *fetcher) join(ctx context.Context, done *Fetched) error {
	if f.store.Packs() <= maxPacks {
		return nil
	}
	done.Joined = true
	if err := pack.Join(ctx, f.objects, f.store); err != nil {
		return storing("join the clone's packs", err)
	}
	return nil
}
