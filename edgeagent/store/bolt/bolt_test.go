package bolt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
)

// made makes a file with flat and nested buckets, short and long values, deep enough for branches, and pages that were freed.
func made(t *testing.T) (path string, want map[string]string) {
	t.Helper()
	path, want = filepath.Join(t.TempDir(), "file.db"), map[string]string{}
	err := Create(path, func(db *bbolt.DB) error {
		for round := range 3 {
			err := db.Update(func(tx *bbolt.Tx) error {
				flat, err := tx.CreateBucketIfNotExists([]byte("flat"))
				if err != nil {
					return err
				}
				for i := round; i < 900; i += 2 {
					k := fmt.Sprintf("%04d", i)
					want["flat//"+k] = strings.Repeat(k, 1+i%5+round)
					if err := flat.Put([]byte(k), []byte(want["flat//"+k])); err != nil {
						return err
					}
				}
				nested, err := tx.CreateBucketIfNotExists([]byte("nested"))
				if err != nil {
					return err
				}
				for i := range 40 {
					own, err := nested.CreateBucketIfNotExists([]byte(fmt.Sprint("n", i)))
					if err != nil {
						return err
					}
					v := strings.Repeat("v", i*i*10+round)
					want[fmt.Sprintf("nested/n%d/k", i)] = v
					if err := own.Put([]byte("k"), []byte(v)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return path, want
}

func salvaged(t *testing.T, path string) (got map[string]string, damage error) {
	t.Helper()
	got = map[string]string{}
	damage, err := Salvage(path, func(r Record) error {
		got[fmt.Sprintf("%s/%s/%s", r.Bucket, r.Nested, r.Key)] = string(r.Value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got, damage
}

func TestCheckAndSalvage(t *testing.T) {
	path, want := made(t)
	if err := Check(path); err != nil {
		t.Fatal(err)
	}
	got, damage := salvaged(t, path)
	if damage != nil || len(got) != len(want) {
		t.Fatalf("%d of %d: %v", len(got), len(want), damage)
	}
	for k, v := range want {
		if got[k] != v {
			t.Fatalf("%s: %d bytes, want %d", k, len(got[k]), len(v))
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	most, unsound := 0, 0
	var offsets []int
	for page := range len(raw) / os.Getpagesize() { // in the head of a page, in its first elements, and anywhere
		offsets = append(offsets, page*os.Getpagesize()+page%16, page*os.Getpagesize()+16+page%48, page*(os.Getpagesize()+7)%len(raw))
	}
	for _, at := range offsets {
		spoiled := slices.Clone(raw)
		spoiled[at] ^= 1 << (at % 8)
		if err := os.WriteFile(path, spoiled, 0o600); err != nil {
			t.Fatal(err)
		}
		err := Check(path)
		if err != nil {
			unsound++
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d: %v", at, err)
			}
		}
		got, _ := salvaged(t, path)
		if most += len(got); err != nil {
			continue
		}
		// What Check passes, bbolt reads and writes without a panic, and it is sound afterwards.
		rewrite(t, path)
		if err := Check(path); err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
	}
	if tried := len(offsets); unsound < tried/20 || most < tried*len(want)*8/10 {
		t.Fatalf("%d of %d flips were noticed; %d records of %d were left", unsound, tried, most, tried*len(want))
	}
	for _, n := range []int{0, 100, os.Getpagesize(), 3 * os.Getpagesize(), len(raw) / 2} {
		if err := os.WriteFile(path, raw[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Check(path); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		salvaged(t, path)
	}
}

// rewrite reads and writes each bucket once more.
func rewrite(t *testing.T, path string) {
	t.Helper()
	db, err := Open(path, bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = Guard(func() error {
		return db.Update(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
				err := b.ForEach(func([]byte, []byte) error { return nil })
				return errors.Join(err, b.Put([]byte("zzz"), []byte("z")), b.Put([]byte("000"), []byte("z")))
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file.db")
	if err := os.WriteFile(path+".tmp", []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	mine := errors.New("mine")
	if err := Create(path, func(*bbolt.DB) error { return mine }, nil); !errors.Is(err, mine) || Exists(path) || Exists(path+".tmp") {
		t.Fatal(err)
	}
	var steps []string
	if err := Create(path, func(*bbolt.DB) error { return nil }, func(at string) { steps = append(steps, at) }); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err != nil || !slices.Equal(steps, []string{"filled", "renamed"}) {
		t.Fatal(err, steps)
	}
	if n, err := Commits(path); err != nil || n == 0 {
		t.Fatal(n, err)
	}
}

func TestGuards(t *testing.T) {
	if err := Guard(func() error { panic("bbolt's") }); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if r := recover(); r != "mine" {
				t.Errorf("got %v", r)
			}
		}()
		GuardFaults(func() error { panic("mine") })
	}()
	// A file that is cut short below its map, as by a disk that cannot read a block any more.
	path := filepath.Join(t.TempDir(), "map")
	if err := os.WriteFile(path, make([]byte, 2*os.Getpagesize()), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := syscall.Mmap(int(f.Fd()), 0, 2*os.Getpagesize(), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(m)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	for _, guard := range []func(func() error) error{Guard, GuardFaults} {
		if err := guard(func() error { return fmt.Errorf("read %d", m[os.Getpagesize()]) }); !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
	}
}
