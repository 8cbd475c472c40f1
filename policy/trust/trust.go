// Package trust reads a fleet repo's trust/ folder: who holds which key, which role may change which path, and how many of
// its principals it takes. It is pure: bytes in, data out, the same on every machine at every hour. Whether a revision
// keeps these rules is the business of package verify.
package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Folder is where trust lives in a fleet repo.
const Folder = "trust"

// Names of files below Folder.
const (
	PolicyFile         = "policy.json"
	AllowedSignersFile = "allowed_signers"
	TrustedRootFile    = "trusted_root.json"
	pgpFolder          = "pgp"
	cosignFolder       = "cosign"
)

// RootRole is the role that owns trust/ itself. Every trust has it.
const RootRole = "root"

// MaxFileBytes bounds each file of trust/, MaxBytes all of them together, MaxFiles how many there are.
const (
	MaxFileBytes = 1 << 20
	MaxBytes     = 4 << 20
	MaxFiles     = 1024
)

// Files are the files of trust/ by their path below it, such as "pgp/alice.asc".
type Files map[string][]byte

// Trust is a parsed trust/ folder. It is read-only and safe for concurrent use.
type Trust struct {
	// Policy is policy.json.
	Policy Policy
	// Signers are the lines of allowed_signers, in order.
	Signers []Signer
	// PGPKeys are the keys below pgp/, by file name.
	PGPKeys []PGPKey
	// Cosign are the keys below cosign/ by their names: images and releases are signed with them.
	Cosign map[string]CosignKey
	// TrustedRoot is trusted_root.json, or nil.
	TrustedRoot []byte

	sshKeys  map[string][]int // wire form of the key → indexes of Signers
	pgpMu    sync.Mutex       // guards what the OpenPGP library remembers inside of PGPKeys
	patterns []owned
	images   []imagePattern
}

// What is wrong with a key. Match with errors.Is.
var (
	// ErrUnknownKey: no principal holds the key.
	ErrUnknownKey = errors.New("unknown key")
	// ErrKeyNotValid: a principal holds the key, but not for this use or not at this time.
	ErrKeyNotValid = errors.New("key not valid")
)

// Error says what is wrong in which file of trust/.
type Error struct {
	// File is the path in the fleet repo: "trust/allowed_signers".
	File string
	// Line counts from 1; 0 means the whole file.
	Line    int
	Message string
}

func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message)
	}
	return fmt.Sprintf("%s: %s", e.File, e.Message)
}

func errorIn(file string, line int, format string, args ...any) error {
	return &Error{File: path.Join(Folder, file), Line: line, Message: fmt.Sprintf(format, args...)}
}

// Parse reads the files of trust/. It refuses what it does not know, so that a misspelt file is not silently no file.
// Errors are joined; each is an *Error.
func Parse(files Files) (*Trust, error) {
	if len(files) > MaxFiles {
		return nil, &Error{File: Folder, Message: fmt.Sprintf("%d files, over the bound of %d", len(files), MaxFiles)}
	}
	total := 0
	for _, data := range files {
		total += len(data)
	}
	if total > MaxBytes {
		return nil, &Error{File: Folder, Message: fmt.Sprintf("%d bytes, over the bound of %d", total, MaxBytes)}
	}
	t := &Trust{Cosign: map[string]CosignKey{}}
	errs := []error{t.readPolicy(files), t.readSigners(files)}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		errs = append(errs, t.readOther(name, files[name]))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	return t, nil
}

// readOther reads every file but policy.json and allowed_signers.
func (t *Trust) readOther(name string, data []byte) error {
	if len(data) > MaxFileBytes {
		return errorIn(name, 0, "%d bytes, over the bound of %d", len(data), MaxFileBytes)
	}
	dir, base := path.Split(name)
	switch {
	case name == PolicyFile, name == AllowedSignersFile, name == "README.md":
		return nil
	case name == TrustedRootFile:
		t.TrustedRoot = data
		return nil
	case dir == pgpFolder+"/" && strings.HasSuffix(base, ".asc"):
		return t.readPGP(name, strings.TrimSuffix(base, ".asc"), data)
	case dir == cosignFolder+"/" && strings.HasSuffix(base, ".pub"):
		return t.readCosign(name, strings.TrimSuffix(base, ".pub"), data)
	}
	return errorIn(name, 0, "no such file belongs here: %s, %s, %s/*.asc, %s/*.pub, %s and README.md do",
		PolicyFile, AllowedSignersFile, pgpFolder, cosignFolder, TrustedRootFile)
}

// check looks at what spans files: every principal of a role holds a key, and every key of an image is there.
func (t *Trust) check() error {
	holders := map[string]bool{}
	for _, s := range t.Signers {
		holders[s.Principal] = true
	}
	for _, k := range t.PGPKeys {
		holders[k.Principal] = true
	}
	var errs []error
	for _, name := range t.Policy.RoleNames() {
		for _, p := range t.Policy.Roles[name].Principals {
			if !holders[p] {
				errs = append(errs, errorIn(PolicyFile, 0, "role %q: principal %q holds no key: add one to %s/%s or %s/%s/%s.asc",
					name, p, Folder, AllowedSignersFile, Folder, pgpFolder, p))
			}
		}
	}
	return errors.Join(append(errs, t.checkImages())...)
}

// CheckRecovery refuses a trust with fewer root principals than threshold + 1: losing one key would lock everyone out.
func (t *Trust) CheckRecovery() error {
	root := t.Policy.Roles[RootRole]
	if have, want := len(root.Principals), root.Threshold+1; have < want {
		return errorIn(PolicyFile, 0, "role %q has %d principals with threshold %d, and needs at least %d: losing one key would lock everyone out; name another principal or lower the threshold",
			RootRole, have, root.Threshold, want)
	}
	return nil
}

// SSHPrincipal gives who holds the key for signatures in the namespace at that time. The error is ErrUnknownKey or
// ErrKeyNotValid, wrapped with what is wrong; with ErrKeyNotValid the principal is given, too.
func (t *Trust) SSHPrincipal(key ssh.PublicKey, namespace string, at time.Time) (string, error) {
	lines := t.sshKeys[string(key.Marshal())]
	if len(lines) == 0 {
		return "", fmt.Errorf("%w %s %s", ErrUnknownKey, key.Type(), ssh.FingerprintSHA256(key))
	}
	var why error
	for _, i := range lines {
		s := &t.Signers[i]
		if why = s.usable(namespace, at); why == nil {
			return s.Principal, nil
		}
	}
	return t.Signers[lines[0]].Principal, fmt.Errorf("%w: %s of %s %w", ErrKeyNotValid, ssh.FingerprintSHA256(key), t.Signers[lines[0]].Principal, why)
}

// RoleOf gives the name of the role that the path belongs to: the one with the most specific matching pattern. It is false
// if no role's pattern matches.
func (t *Trust) RoleOf(p string) (string, bool) {
	segments := strings.Split(p, "/")
	best := -1
	for i, o := range t.patterns {
		if o.pattern.match(segments) && (best < 0 || o.pattern.compare(t.patterns[best].pattern) > 0) {
			best = i
		}
	}
	if best < 0 {
		return "", false
	}
	return t.patterns[best].role, true
}

// ReadFS reads the files of a trust/ folder: fsys is the folder itself.
func ReadFS(fsys fs.FS) (Files, error) {
	files := Files{}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return errorIn(name, 0, "not a regular file")
		}
		if len(files) >= MaxFiles {
			return &Error{File: Folder, Message: fmt.Sprintf("more than %d files", MaxFiles)}
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Size() > MaxFileBytes {
			return errorIn(name, 0, "%d bytes, over the bound of %d", info.Size(), MaxFileBytes)
		}
		files[name], err = fs.ReadFile(fsys, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", Folder, err)
	}
	return files, nil
}
