package fleet

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// DefaultMemoBytes bounds a memo where nothing else is said: some forty states of a fleet of 10,000 nodes.
const DefaultMemoBytes = 256 << 20

// Memo keeps what evaluations came to, on disk, under keys made of everything that went in. It only saves time: an
// entry that is missing or damaged is evaluated again, and one that cannot be written is not kept. Several processes may
// share it. A nil Memo keeps nothing.
type Memo struct {
	dir     string
	max     int64
	version string
	wrote   bool
}

// OpenMemo gives the memo in that folder, which is made when first needed. Close it.
func OpenMemo(dir string, maxBytes int64) *Memo {
	return &Memo{dir: dir, max: maxBytes, version: evaluatorVersion()}
}

// evaluatorVersion names the code that evaluates: this very program.
func evaluatorVersion() string {
	version := "?"
	if exe, err := os.Executable(); err == nil {
		if info, err := os.Stat(exe); err == nil {
			version = fmt.Sprintf("%d-%d", info.Size(), info.ModTime().UnixNano())
		}
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range build.Deps {
			if dep.Path == "cuelang.org/go" {
				version += " cue " + dep.Version
			}
		}
	}
	return version
}

// key names an evaluation.
func (m *Memo) key(fleet, pool string, parts ...gathered) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q\n", m.evaluator(), fleet, pool)
	var lines []string
	for _, g := range parts {
		for _, b := range g.blobs {
			lines = append(lines, fmt.Sprintf("%s %q\n", b.hash, b.path))
		}
	}
	slices.Sort(lines)
	for _, l := range lines {
		h.Write([]byte(l))
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (m *Memo) evaluator() string {
	if m == nil {
		return ""
	}
	return m.version
}

func (m *Memo) file(key string) string { return filepath.Join(m.dir, key[:2], key[2:]) }

// get gives what is kept under the key. An entry is a line with the hash of the rest, and the rest.
func (m *Memo) get(key string) (outcome, bool) {
	var o outcome
	if m == nil {
		return o, false
	}
	raw, err := os.ReadFile(m.file(key))
	if err != nil {
		return o, false
	}
	sum, body, _ := bytes.Cut(raw, []byte("\n"))
	if string(sum) != sumOf(body) || json.Unmarshal(body, &o) != nil {
		return outcome{}, false
	}
	return o, true
}

func sumOf(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// put keeps o under the key, as far as it can.
func (m *Memo) put(key string, o outcome) {
	if m == nil || o.over {
		return
	}
	body, err := json.Marshal(o)
	if err != nil {
		return
	}
	name := m.file(key)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), "new-")
	if err != nil {
		return
	}
	_, err = tmp.WriteString(sumOf(body) + "\n" + string(body))
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return
	}
	m.wrote = true
}

// Close removes the oldest entries until the memo is within its bound.
func (m *Memo) Close() error {
	if m == nil || !m.wrote {
		return nil
	}
	type entry struct {
		name string
		size int64
		at   time.Time
	}
	var entries []entry
	var total int64
	err := filepath.WalkDir(m.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // another process removed it
			return nil
		}
		if err != nil {
			return err
		}
		entries = append(entries, entry{name, info.Size(), info.ModTime()})
		total += info.Size()
		return nil
	})
	if err != nil {
		return fmt.Errorf("bound the memo: %w", err)
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Or(a.at.Compare(b.at), strings.Compare(a.name, b.name)) })
	for _, e := range entries {
		if total <= m.max {
			break
		}
		if err := os.Remove(e.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("bound the memo: %w", err)
		}
		total -= e.size
	}
	return nil
}
