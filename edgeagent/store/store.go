package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// Names of the files in the state folder.
const (
	fileName    = "state.db"
	copyName    = "state.copy"
	damagedName = "state.db.damaged"
)

// Step is called at named points of writing, so that tests can end the process there. The points: "copied" (the copy is
// on disk, state.db is not), "committing" (inside the transaction), "committed".
type Step func(point string)

// Store is an open state. Its methods are safe for concurrent use. What it gives must not be changed.
type Store struct {
	dir      string
	step     Step
	lock     *Lock
	restored error // why the file was made anew from its copy; nil if it was not

	mu  sync.Mutex // guards what follows
	db  *bbolt.DB
	now Contents
}

// Open opens the state for the one agent that runs. A damaged state.db is set aside and made anew from its copy, which is
// never older: see Restored. If the copy cannot be believed either the error says what to do. step may be nil.
func Open(dir string, step Step) (*Store, error) {
	if !enrolled(dir) {
		return nil, notEnrolled(dir)
	}
	lock, err := TakeLock(dir)
	if err != nil {
		return nil, err
	}
	s, err := OpenLocked(dir, lock, step)
	if err != nil {
		lock.Release()
		return nil, err
	}
	s.lock = lock
	return s, nil
}

// OpenLocked is Open for a caller that holds the folder's Lock, and goes on to hold it.
func OpenLocked(dir string, _ *Lock, step Step) (*Store, error) {
	if !enrolled(dir) {
		return nil, notEnrolled(dir)
	}
	if step == nil {
		step = func(string) {}
	}
	s := &Store{dir: dir, step: step}
	if err := s.openOrRestore(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) openOrRestore() error {
	path := filepath.Join(s.dir, fileName)
	err := s.open()
	switch {
	case err == nil:
		if _, err := readCopy(s.dir); errors.Is(err, ErrDamaged) {
			return writeCopy(s.dir, s.now.State)
		}
		return nil
	case errors.Is(err, ErrDamaged), errors.Is(err, os.ErrNotExist):
		return s.restore(fmt.Errorf("open %s: %w", path, err))
	default:
		return fmt.Errorf("open %s: %w", path, err)
	}
}

func enrolled(dir string) bool {
	return bolt.Exists(filepath.Join(dir, fileName)) || bolt.Exists(filepath.Join(dir, copyName))
}

func notEnrolled(dir string) error {
	return fmt.Errorf("%w: %s holds no state: run holdfast-agent enroll first", ErrNotEnrolled, dir)
}

func (s *Store) open() error {
	db, err := bolt.Open(filepath.Join(s.dir, fileName), bbolt.Options{})
	if err != nil {
		return err
	}
	s.now, err = load(db)
	if err != nil {
		bolt.Guard(db.Close)
		return err
	}
	s.db = db
	return nil
}

// restore makes state.db anew from the copy, because of why. The copy is written before state.db, so it never is the
// older of the two, and no verdict is taken back.
func (s *Store) restore(why error) error {
	state, err := readCopy(s.dir)
	if err != nil {
		return fmt.Errorf("%w; its copy: %w; nothing was changed: enrol this node again with an anchor commit got out of band (holdfast-agent unenroll, then enroll)", why, err)
	}
	path := filepath.Join(s.dir, fileName)
	if bolt.Exists(path) {
		if err := os.Rename(path, filepath.Join(s.dir, damagedName)); err != nil {
			return err
		}
	}
	if err := create(s.dir, state); err != nil {
		return err
	}
	s.restored = why
	return s.open()
}

// Restored says why state.db was made anew from its copy when it was opened; nil if it was not.
func (s *Store) Restored() error { return s.restored }

// Close closes the file. It may be called twice.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.db != nil {
		err = bolt.Guard(s.db.Close)
		s.db = nil
	}
	return errors.Join(err, s.lock.Release())
}

// Contents gives all there is.
func (s *Store) Contents() Contents {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.now
	c.Rejected = slices.Clone(c.Rejected)
	return c
}

// State gives what changes together.
func (s *Store) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.State
}

// Accept stores trust and the plan in force in one atomic commit. When it has returned without an error both are on disk.
// Nothing is written if nothing changes.
func (s *Store) Accept(trust verify.State, inForce *InForce) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.setState(State{Enrolment: s.now.Enrolment, Trust: trust, InForce: inForce})
}

// SetEnrolment changes where the fleet repo is or how the node is enrolled; trust and plan stay.
func (s *Store) SetEnrolment(e Enrolment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.setState(State{Enrolment: e, Trust: s.now.Trust, InForce: s.now.InForce})
}

func (s *Store) setState(next State) error {
	if same(s.now.State, next) {
		return nil
	}
	if err := writeCopy(s.dir, next); err != nil {
		return err
	}
	s.step("copied")
	if err := s.write(keyState, next); err != nil {
		return err
	}
	s.now.State = next
	s.step("committed")
	return nil
}

// Reject remembers a revision that did not come into force. One that is the latest already is not written again.
func (s *Store) Reject(r Rejected) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.now.Rejected) > 0 {
		last := s.now.Rejected[0]
		if last.Tip == r.Tip && last.Notes == r.Notes && last.Reason == r.Reason && last.Message == r.Message {
			return nil
		}
	}
	next := append([]Rejected{r}, s.now.Rejected...)
	next = next[:min(len(next), keptRejections)]
	if err := s.write(keyRejected, next); err != nil {
		return err
	}
	s.now.Rejected = next
	return nil
}

// SaveReport keeps the latest report. One that says nothing new is not written.
func (s *Store) SaveReport(r condition.Report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if same(s.now.Report, r) {
		return nil
	}
	if err := s.write(keyReport, r); err != nil {
		return err
	}
	s.now.Report = r
	return nil
}

func (s *Store) write(key string, v any) error {
	path := filepath.Join(s.dir, fileName)
	if s.db == nil {
		return writeError(path, os.ErrClosed)
	}
	return writeError(path, bolt.Guard(func() error { return put(s.db, s.step, key, v) }))
}

// same compares what would be written.
func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
