package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/seal"
	"github.com/holdfast-dev/holdfast/policy/enrolment"
)

const fleet, node = "kelp", "berlin-1"

var secret = enrolment.NewSecret()

// enrolled makes a node's key in a folder of its own.
func enrolled(t *testing.T) (*Identity, Files) {
	t.Helper()
	files := inFolder(t)
	id, err := Make(files, fleet, node, secret)
	if err != nil {
		t.Fatal(err)
	}
	return id, files
}

func inFolder(t *testing.T) Files {
	t.Helper()
	state := t.TempDir()
	for _, dir := range []string{"identity", "credentials"} {
		if err := os.Mkdir(filepath.Join(state, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return Files{Key: filepath.Join(state, "identity", "node.key"), SealingKey: filepath.Join(state, "credentials", "identity.key")}
}

func reopen(t *testing.T, files Files) *Identity {
	t.Helper()
	id, err := Open(files)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAKeyIsMadeOnceAndStays(t *testing.T) {
	files := inFolder(t)
	if _, err := Open(files); !errors.Is(err, ErrNone) {
		t.Fatalf("open before it was made: %v", err)
	}
	made, err := Make(files, fleet, node, secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Make(files, fleet, node, secret); !errors.Is(err, ErrExists) {
		t.Fatalf("made twice: %v", err)
	}
	again := reopen(t, files)
	if again.Fleet() != fleet || again.Node() != node || again.Key().Fingerprint() != made.Key().Fingerprint() || again.Newest() != made.Newest() {
		t.Error("another key after it was opened again")
	}
	change, err := enrolment.Verify(fleet, node, enrolment.Known{Secret: secret.PublicKey()}, again.Proofs())
	if err != nil || change == nil || !slices.Equal(change.Keys, []Fingerprint{made.Newest()}) {
		t.Errorf("its proof: %+v, %v", change, err)
	}
}

func TestTheCertificateIsOnlyAnEnvelope(t *testing.T) {
	id, _ := enrolled(t)
	cert, err := x509.ParseCertificate(id.Key().Certificate().Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if cert.NotAfter.Year() != 9999 || cert.NotBefore.Year() != 1970 || cert.Subject.CommonName != node {
		t.Errorf("certificate of %s from %s to %s", cert.Subject, cert.NotBefore, cert.NotAfter)
	}
	state := tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{cert}}
	if got, err := Peer(state); err != nil || got != id.Key().Fingerprint() {
		t.Errorf("peer %s, %v", got, err)
	}
	for what, bad := range map[string]tls.ConnectionState{
		"no certificate": {Version: tls.VersionTLS13},
		"TLS 1.2":        {Version: tls.VersionTLS12, PeerCertificates: []*x509.Certificate{cert}},
		"two":            {Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{cert, cert}},
		"another kind":   {Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{{PublicKey: "rsa"}}},
	} {
		if _, err := Peer(bad); !errors.Is(err, ErrNoPeer) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestSignaturesAreForOnePurpose(t *testing.T) {
	id, _ := enrolled(t)
	key := id.Key()
	s := key.Sign("announce", []byte("message"))
	if !Verify(key.Public(), "announce", []byte("message"), s) {
		t.Error("its own signature does not hold")
	}
	if Verify(key.Public(), "other", []byte("message"), s) || Verify(key.Public(), "announce", []byte("massage"), s) {
		t.Error("a signature holds for what was not signed")
	}
}

// TestNothingLiesOpen looks for the seed in the files, in its forms.
func TestNothingLiesOpen(t *testing.T) {
	id, files := enrolled(t)
	seed := id.held[0].key.private.Seed()
	for _, path := range []string{files.Key, files.SealingKey} {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, seed) || bytes.Contains(raw, []byte(base64.StdEncoding.EncodeToString(seed))) || bytes.Contains(raw, []byte(node)) {
			t.Errorf("%s holds the key in clear", path)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
		}
	}
}

func TestRotation(t *testing.T) {
	id, files := enrolled(t)
	first := id.Key()
	if err := id.Rotate(); !errors.Is(err, ErrNotListed) {
		t.Fatalf("rotated before it was listed: %v", err)
	}
	list := func(keys ...Fingerprint) {
		t.Helper()
		if err := id.SetListed(keys); err != nil {
			t.Fatal(err)
		}
	}
	list(first.Fingerprint())
	if err := id.Rotate(); err != nil {
		t.Fatal(err)
	}
	second := id.Newest()
	if second == first.Fingerprint() || id.Key() != first {
		t.Fatal("the next key is in use before the fleet repo lists it")
	}
	if err := id.Rotate(); !errors.Is(err, ErrNotListed) {
		t.Fatalf("rotated twice: %v", err)
	}
	change, err := enrolment.Verify(fleet, node, enrolment.Known{Keys: []Fingerprint{first.Fingerprint()}}, id.Proofs())
	if err != nil || change == nil {
		t.Fatalf("the next key's proof: %+v, %v", change, err)
	}
	id = reopen(t, files)
	list(change.Keys...)
	if id.Key().Fingerprint() != first.Fingerprint() {
		t.Error("the next key is in use while members may not know it")
	}
	list(second)
	if id.Key().Fingerprint() != second || len(id.Proofs()) != 1 {
		t.Errorf("%d keys are held, in use is %s", len(id.Proofs()), id.Key().Fingerprint())
	}
	id = reopen(t, files)
	if id.Key().Fingerprint() != second {
		t.Error("the old key came back")
	}
	list(first.Fingerprint())
	if id.Key().Fingerprint() != second {
		t.Error("a key that is forgotten is in use")
	}
}

// TestANewSecret proves the same key to a fleet repo that does not list it any more.
func TestANewSecret(t *testing.T) {
	id, files := enrolled(t)
	other := enrolment.NewSecret()
	if err := id.Prove(other); err != nil {
		t.Fatal(err)
	}
	change, err := enrolment.Verify(fleet, node, enrolment.Known{Secret: other.PublicKey()}, reopen(t, files).Proofs())
	if err != nil || change == nil || change.Keys[0] != id.Key().Fingerprint() {
		t.Errorf("%+v, %v", change, err)
	}
}

// TestDamage spoils each file: the key is lost with an error that says so, or it is as it was. It never is another.
func TestDamage(t *testing.T) {
	id, files := enrolled(t)
	want := id.Key().Fingerprint()
	_, others := enrolled(t)
	for _, path := range []string{files.Key, files.SealingKey} {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		elsewhere, err := os.ReadFile(map[string]string{files.Key: others.Key, files.SealingKey: others.SealingKey}[path])
		if err != nil {
			t.Fatal(err)
		}
		spoiled := map[string][]byte{"empty": {}, "another's": elsewhere, "cut": whole[:len(whole)-1], "longer": append(slices.Clone(whole), 0), "huge": make([]byte, 1<<20)}
		for i := range whole {
			flipped := slices.Clone(whole)
			flipped[i] ^= 1
			spoiled["flipped at "+string(rune('0'+i%10))+"…"] = flipped
		}
		for what, raw := range spoiled {
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(files); !errors.Is(err, ErrDamaged) && what != "huge" || err == nil {
				t.Errorf("%s %s: %v", filepath.Base(path), what, err)
			}
			if _, err := Make(files, fleet, node, secret); !errors.Is(err, ErrExists) {
				t.Errorf("%s %s: a new key in place of a damaged one: %v", filepath.Base(path), what, err)
			}
		}
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := reopen(t, files).Key().Fingerprint(); got != want {
			t.Errorf("after it was put back: %s", got)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s stays readable by all: %v", path, err)
		}
	}
	if err := os.Remove(files.SealingKey); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(files); !errors.Is(err, ErrDamaged) {
		t.Errorf("without the sealing key: %v", err)
	}
}

// TestDiskFull fails each write in turn: nothing changes, in memory or on disk, and the next try works.
func TestDiskFull(t *testing.T) {
	id, files := enrolled(t)
	first := id.Key().Fingerprint()
	if err := id.SetListed([]Fingerprint{first}); err != nil {
		t.Fatal(err)
	}
	good := id.write
	full := func(string, []byte) error { return &fs.PathError{Op: "write", Err: syscall.ENOSPC} }
	id.write = full
	if err := id.Rotate(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("rotate: %v", err)
	}
	if err := id.Prove(enrolment.NewSecret()); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("prove: %v", err)
	}
	if id.Newest() != first || reopen(t, files).Newest() != first || !maps.Equal(keysOf(id), keysOf(reopen(t, files))) {
		t.Error("a write that failed changed the key")
	}
	id.write = good
	if err := id.Rotate(); err != nil {
		t.Fatal(err)
	}
	second := id.Newest()
	id.write = full
	if err := id.SetListed([]Fingerprint{second}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("list: %v", err)
	}
	if id.Key().Fingerprint() != second {
		t.Error("a full disk keeps the node on a key that nobody knows any more")
	}
	id.write = good
	if err := id.Rotate(); !errors.Is(err, ErrNotListed) {
		t.Errorf("a third key while two are held: %v", err)
	}
	if err := id.SetListed([]Fingerprint{second}); err != nil || len(reopen(t, files).held) != 1 {
		t.Errorf("the old key stays: %v", err)
	}
}

// TestMakeOnAFullDisk leaves nothing that a later enrolment stumbles over.
func TestMakeOnAFullDisk(t *testing.T) {
	files := inFolder(t)
	identity := filepath.Dir(files.Key)
	if err := os.Remove(identity); err != nil { // the sealing key can be written, the key cannot
		t.Fatal(err)
	}
	if _, err := Make(files, fleet, node, secret); err == nil {
		t.Fatal("made without a folder")
	}
	if _, err := Open(files); !errors.Is(err, ErrNone) {
		t.Errorf("after it failed: %v", err)
	}
	if err := os.Mkdir(identity, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files.SealingKey, []byte("cut"), 0o600); err != nil { // as a power cut left it in a careless copy
		t.Fatal(err)
	}
	made, err := Make(files, fleet, node, secret)
	if err != nil || reopen(t, files).Newest() != made.Newest() {
		t.Errorf("made again: %v", err)
	}
}

func keysOf(id *Identity) map[Fingerprint]enrolment.PublicKey {
	keys := map[Fingerprint]enrolment.PublicKey{}
	for _, h := range id.held {
		keys[h.key.fingerprint] = h.proof.By
	}
	return keys
}

// FuzzDecode: what the sealed body may hold never makes a key that differs from its proof, and never panics.
func FuzzDecode(f *testing.F) {
	files := Files{Key: filepath.Join(f.TempDir(), "node.key"), SealingKey: filepath.Join(f.TempDir(), "identity.key")}
	if _, err := Make(files, fleet, node, secret); err != nil {
		f.Fatal(err)
	}
	raw, _ := os.ReadFile(files.Key)
	sealing, _ := os.ReadFile(files.SealingKey)
	s, err := seal.New(sealing, purpose)
	if err != nil {
		f.Fatal(err)
	}
	body, err := s.Open(bucket, nil, raw[len(fileHead):])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		k, err := decode(body)
		if err != nil {
			return
		}
		for _, key := range k.Keys {
			if len(key.Seed) != ed25519.SeedSize || key.Proof.Check() != nil || key.Proof.Node != k.Node {
				t.Fatalf("decoded %+v", k)
			}
		}
	})
}
