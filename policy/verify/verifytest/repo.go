// Package verifytest builds signed fleet repos for tests, fast: no git program, fresh ed25519 keys, in memory or as a bare
// repository on disk that git can serve. It can also build what git refuses to: malformed trees, submodules, commits
// with two signatures.
//
//	repo := verifytest.New(t)                                      // trust/ of alice and bob, signed by alice: repo.Anchor()
//	tip := repo.Push("alice", verifytest.Files{"fleet.cue": "…"})  // a signed commit on the branch
//	repo.Commit(verifytest.Commit{Files: …})                       // unsigned
//	repo.Countersign(tip, "bob")                                   // a note in refs/notes/holdfast
//
// A Repo is a verify.Objects. Its Dir is served with `git http-backend` as any bare repository is.
package verifytest

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify"
)

// TB is what a Repo needs of a test. A *testing.T is one; a program that is no test can bring its own.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	TempDir() string
}

// Files are contents by path.
type Files map[string]string

// Names that New uses unless told otherwise.
const (
	Fleet  = "kelp"
	Branch = "main"
	// NotesRef carries the notes.
	NotesRef = "refs/notes/holdfast"
)

// Start is the committer date of a Repo's first commit; each further one is a minute later.
var Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Repo is a fleet repo under construction. Its methods end the test on errors. It is not safe for concurrent use.
type Repo struct {
	// Dir is the bare repository on disk, or "" if the Repo is in memory only.
	Dir string

	tb      TB
	keys    map[string]*Key
	objects map[string]object
	refs    map[string]string
	notes   map[string]string // annotated commit → note
	anchor  string
	clock   time.Time
	fleet   string
	seeded  bool
}

type object struct {
	kind string
	raw  []byte
}

// Option changes what New makes.
type Option func(*config)

type config struct {
	dir    string
	memory bool
	policy trust.Policy
	files  Files
	start  time.Time
	seeded bool
}

// InMemory keeps the repository off the disk.
func InMemory() Option { return func(c *config) { c.memory = true } }

// At puts the repository into dir, which must be empty or missing, rather than into a folder of the test.
func At(dir string) Option { return func(c *config) { c.dir = dir } }

// WithPolicy replaces the default policy (see DefaultPolicy). Each principal it names gets a key.
func WithPolicy(p trust.Policy) Option { return func(c *config) { c.policy = p } }

// WithFiles adds files to the first commit.
func WithFiles(f Files) Option { return func(c *config) { maps.Copy(c.files, f) } }

// Seeded makes each principal's first key from the name, so that commit ids are the same every time: for tests of exact output.
func Seeded() Option { return func(c *config) { c.seeded = true } }

// StartingAt dates the first commit.
func StartingAt(t time.Time) Option { return func(c *config) { c.start = t } }

// DefaultPolicy is what New uses: role root (alice and bob, threshold 1, trust/**) and role ops (alice, bob and carol,
// threshold 1, everything else).
func DefaultPolicy() trust.Policy {
	return trust.Policy{
		Fleet: Fleet,
		Roles: map[string]trust.Role{
			trust.RootRole: {Principals: []string{"alice", "bob"}, Threshold: 1, Paths: []string{"trust/**"}},
			"ops":          {Principals: []string{"alice", "bob", "carol"}, Threshold: 1, Paths: []string{"**"}},
		},
	}
}

// New makes a repository with one commit on the branch: the trust of the policy, and the files of WithFiles, signed by the
// first root principal. That commit is the Anchor.
func New(tb TB, opts ...Option) *Repo {
	tb.Helper()
	c := config{policy: DefaultPolicy(), files: Files{}, start: Start}
	for _, o := range opts {
		o(&c)
	}
	r := &Repo{tb: tb, keys: map[string]*Key{}, objects: map[string]object{}, refs: map[string]string{}, notes: map[string]string{}, clock: c.start, fleet: c.policy.Fleet, seeded: c.seeded}
	if !c.memory {
		r.Dir = c.dir
		if r.Dir == "" {
			r.Dir = filepath.Join(tb.TempDir(), "fleet.git")
		}
		r.initBare()
	}
	files := r.TrustFiles(c.policy)
	maps.Copy(files, c.files)
	r.anchor = r.Commit(Commit{Files: files, By: r.Key(c.policy.Roles[trust.RootRole].Principals[0]), Message: "fleet: begin"})
	return r
}

// Key gives the principal's key, and makes it first if need be. A key made after New is in no trust until TrustFiles is committed.
func (r *Repo) Key(principal string) *Key {
	r.tb.Helper()
	if r.keys[principal] == nil && r.seeded {
		r.keys[principal] = seededKey(r.tb, principal)
	}
	if r.keys[principal] == nil {
		r.keys[principal] = NewKey(r.tb, principal)
	}
	return r.keys[principal]
}

// NewKeyFor replaces the principal's key by a fresh one, and gives it. It is in force once TrustFiles is committed.
func (r *Repo) NewKeyFor(principal string) *Key {
	r.tb.Helper()
	r.keys[principal] = NewKey(r.tb, principal)
	return r.keys[principal]
}

// TrustFiles gives trust/policy.json and trust/allowed_signers for the policy, with the present key of each principal it names.
func (r *Repo) TrustFiles(p trust.Policy) Files {
	r.tb.Helper()
	seen := map[string]bool{}
	var signers []trust.Signer
	for _, role := range p.RoleNames() {
		for _, principal := range p.Roles[role].Principals {
			if !seen[principal] {
				seen[principal] = true
				signers = append(signers, r.Key(principal).AllowedSigner())
			}
		}
	}
	return Files{
		"trust/" + trust.PolicyFile:         string(p.JSON()),
		"trust/" + trust.AllowedSignersFile: string(trust.FormatSigners(signers)),
	}
}

// Anchor gives the first commit.
func (r *Repo) Anchor() string { return r.anchor }

// Tip gives the branch's newest commit.
func (r *Repo) Tip() string { return r.refs["refs/heads/"+Branch] }

// Notes gives the commit refs/notes/holdfast points to, or "".
func (r *Repo) Notes() string { return r.refs[NotesRef] }

// Ref gives the commit of a ref, such as "refs/heads/main", or "".
func (r *Repo) Ref(name string) string { return r.refs[name] }

// SetRef points a ref to a commit, whatever it pointed to: a force-push. An empty id deletes it.
func (r *Repo) SetRef(name, id string) {
	r.tb.Helper()
	if id == "" {
		delete(r.refs, name)
	} else {
		r.refs[name] = id
	}
	if r.Dir == "" {
		return
	}
	file := filepath.Join(r.Dir, filepath.FromSlash(name))
	if id == "" {
		check(r.tb, os.RemoveAll(file))
		return
	}
	check(r.tb, os.MkdirAll(filepath.Dir(file), 0o755))
	check(r.tb, writeFile(file, []byte(id+"\n")))
}

// Object gives an object, as verify.Objects asks for.
func (r *Repo) Object(id string) (string, []byte, error) {
	o, ok := r.objects[id]
	if !ok {
		return "", nil, fmt.Errorf("%s: %w", id, verify.ErrNotFound)
	}
	return o.kind, o.raw, nil
}

// Write stores an object as it is, well-formed or not, and gives its id.
func (r *Repo) Write(kind string, raw []byte) string {
	r.tb.Helper()
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00", kind, len(raw))
	h.Write(raw)
	id := hex.EncodeToString(h.Sum(nil))
	if _, ok := r.objects[id]; ok {
		return id
	}
	r.objects[id] = object{kind: kind, raw: raw}
	if r.Dir != "" {
		r.writeLoose(id, kind, raw)
	}
	return id
}

// Raw gives an object's content.
func (r *Repo) Raw(id string) []byte {
	r.tb.Helper()
	_, raw, err := r.Object(id)
	check(r.tb, err)
	return raw
}
