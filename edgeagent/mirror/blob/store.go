// Package blob is the mirror's content-addressed store, made for power cuts. A blob is in it whole and checked, or not at all; what
// was fetched of it before the power went is not fetched again. No registry's storage promises both, and none collects garbage by what
// runs on the node instead of by age.
//
// The folder:
//
//	sha256/ab/abcd…       blobs; the file's time is when it was last asked for
//	sha512/…
//	partial/sha256-abcd…  what has come of a blob, and with ".json" the journal that says how much of it can be believed
//	quarantine/           what did not match its digest, for a person to look at; bounded
//	scrub.json            where the scrub is
//	lock                  one process at a time
package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// Names in the folder.
const (
	partialFolder    = "partial"
	quarantineFolder = "quarantine"
	scrubName        = "scrub.json"
	lockName         = "lock"
	journalSuffix    = ".json"
	temporary        = ".tmp"
)

// Budget bounds what the store takes of the disk.
type Budget struct {
	Quota   int64 // bytes in the store at most; 0 is no bound
	Reserve int64 // bytes that stay free on the file system
}

// Options are how a store is opened.
type Options struct {
	Budget
	// Roots yields all that must stay: what runs, what is pinned, the last known good, with everything below it (see Tree). It is asked
	// when room is needed, and may read from the store. An error means that nothing is deleted. nil means that nothing ever is.
	Roots func(ctx context.Context) iter.Seq2[oci.Digest, error]
	// Log is told what heals without anybody's doing. nil is silent.
	Log *slog.Logger
}

// Store is a folder of blobs. Its methods may be called from many goroutines.
type Store struct {
	dir   string
	roots func(ctx context.Context) iter.Seq2[oci.Digest, error]
	log   *slog.Logger
	lock  *os.File
	tuning

	collecting sync.Mutex // one collection at a time

	mu         sync.Mutex // guards all below, and the moment in which a partial becomes a blob
	closed     bool
	budget     Budget
	used       int64                  // bytes in blobs, partials and quarantine
	reserved   int64                  // bytes that writers were promised and have not written
	quarantine int64                  // bytes in quarantine, a part of used
	writers    map[oci.Digest]*Writer // at most one for each blob
	pins       map[oci.Digest]int
	touched    map[oci.Digest]int64 // asked for, and the file's time does not say so yet
	clock      int64                // the newest time of a file, in Unix nanoseconds; only ever grows
	flushed    time.Time
}

// tuning is what tests set otherwise.
type tuning struct {
	disk            disk
	boot            string                // which boot of the machine this is, or "" where nobody knows
	free            func() (int64, error) // bytes on the file system that may be used
	journalFrom     int64                 // a partial below this is not worth a journal
	checkpointBytes int64                 // at most this much is lost to a power cut…
	checkpointEvery time.Duration         // …and at most what came in this time
	quarantineLimit int64                 // bytes of evidence that are kept
}

func defaults(dir string) tuning {
	return tuning{
		boot:            bootID(),
		free:            func() (int64, error) { return freeSpace(dir) },
		journalFrom:     256 << 10,
		checkpointBytes: 32 << 20,
		checkpointEvery: 30 * time.Second,
		quarantineLimit: 64 << 20,
	}
}

// flushEvery is how old a file's time may become while the store is in use, and touchedMost how many may be so.
const (
	flushEvery  = time.Hour
	touchedMost = 4096
)

// Open opens the folder, makes it if it is not there, and puts in order what a crash or a power cut left. ErrInUse if another process
// has it.
func Open(dir string, o Options) (*Store, error) {
	return open(dir, o, defaults(dir))
}

func open(dir string, o Options, t tuning) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		dir: dir, roots: o.Roots, log: o.Log, tuning: t, budget: o.Budget, flushed: time.Now(),
		writers: map[oci.Digest]*Writer{}, pins: map[oci.Digest]int{}, touched: map[oci.Digest]int64{},
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open blob store: %w", diskError(err))
	}
	var err error
	if s.lock, err = takeLock(filepath.Join(dir, lockName)); err != nil {
		return nil, fmt.Errorf("open blob store %s: %w", dir, err)
	}
	if err := s.heal(); err != nil {
		releaseLock(s.lock)
		return nil, fmt.Errorf("open blob store %s: %w", dir, diskError(err))
	}
	return s, nil
}

// Close ends all writers, keeping what they have, and writes the times that are not on disk yet. Readers may read on.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	var writers []*Writer
	for _, w := range s.writers {
		writers = append(writers, w)
	}
	s.mu.Unlock()
	var errs []error
	for _, w := range writers {
		errs = append(errs, w.Abandon(ErrClosed))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	errs = append(errs, s.flush(), releaseLock(s.lock))
	return errors.Join(errs...)
}

// SetBudget changes what the store may take. What is too much goes with the next collection.
func (s *Store) SetBudget(b Budget) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budget = b
}

// Usage is what the store takes of the disk.
type Usage struct {
	Bytes      int64 // of everything
	Quarantine int64 // of these, in quarantine
	Reserved   int64 // promised to writers and not written yet
}

// Usage costs nothing.
func (s *Store) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Usage{Bytes: s.used, Quarantine: s.quarantine, Reserved: s.reserved}
}

// Info is what is known of a blob without reading it.
type Info struct {
	Digest oci.Digest
	Size   int64
	Used   time.Time // last asked for; only the order of these times means something, as clocks may be wrong
}

// Stat tells about a blob that is whole, else ErrNotFound.
func (s *Store) Stat(d oci.Digest) (Info, error) {
	info, err := os.Stat(s.path(d))
	if err == nil && !info.Mode().IsRegular() { // the zero digest, or what somebody put there
		err = fs.ErrNotExist
	}
	if err != nil {
		return Info{}, notFound(d, err)
	}
	return s.info(d, info), nil
}

func (s *Store) info(d oci.Digest, info fs.FileInfo) Info {
	at := info.ModTime().UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	if touched, ok := s.touched[d]; ok {
		at = touched
	}
	return Info{Digest: d, Size: info.Size(), Used: time.Unix(0, at)}
}

// Pin keeps blobs from being collected, whether they are there or not, until it is released; that may be called twice.
func (s *Store) Pin(digests ...oci.Digest) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range digests {
		s.pins[d]++
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, d := range digests {
			if s.pins[d]--; s.pins[d] <= 0 {
				delete(s.pins, d)
			}
		}
	})
}

func (s *Store) path(d oci.Digest) string {
	return filepath.Join(s.dir, string(d.Algorithm()), shard(d), d.Hex())
}

// shard keeps folders short. The zero digest, which names nothing, has one that is not there.
func shard(d oci.Digest) string {
	sum := d.Hex()
	return sum[:min(2, len(sum))]
}

func (s *Store) partialPath(d oci.Digest) string {
	return filepath.Join(s.dir, partialFolder, fileName(d))
}

// fileName is a digest as the name of a file: without the colon, which not every file system takes.
func fileName(d oci.Digest) string { return string(d.Algorithm()) + "-" + d.Hex() }

func notFound(d oci.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", d, ErrNotFound)
	}
	return fmt.Errorf("%s: %w", d, err)
}
