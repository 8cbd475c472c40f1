package source

import (
	"context"
	"errors"
	"fmt"
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
