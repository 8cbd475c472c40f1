package seal_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/seal"
)

var key = bytes.Repeat([]byte{7}, seal.KeySize)

func TestOnlyTheSamePlaceOpens(t *testing.T) {
	s := sealer(t, key, "purpose")
	sealed := s.Seal([]byte("head"), "bucket", []byte("key"), []byte("body"))
	if !bytes.HasPrefix(sealed, []byte("head")) || bytes.Contains(sealed, []byte("body")) {
		t.Fatalf("sealed: %q", sealed)
	}
	sealed = sealed[len("head"):]
	body, err := s.Open("bucket", []byte("key"), sealed)
	if err != nil || string(body) != "body" {
		t.Fatalf("open: %q, %v", body, err)
	}
	other := bytes.Clone(key)
	other[0]++
	changed := bytes.Clone(sealed)
	changed[len(changed)-1]++
	for name, open := range map[string]func() ([]byte, error){
		"another bucket":  func() ([]byte, error) { return s.Open("bucke", []byte("tkey"), sealed) },
		"another key":     func() ([]byte, error) { return s.Open("bucket", []byte("kez"), sealed) },
		"another purpose": func() ([]byte, error) { return sealer(t, key, "other").Open("bucket", []byte("key"), sealed) },
		"another sealing": func() ([]byte, error) { return sealer(t, other, "purpose").Open("bucket", []byte("key"), sealed) },
		"changed":         func() ([]byte, error) { return s.Open("bucket", []byte("key"), changed) },
		"cut short":       func() ([]byte, error) { return s.Open("bucket", []byte("key"), sealed[:10]) },
		"nothing":         func() ([]byte, error) { return s.Open("bucket", []byte("key"), nil) },
	} {
		if _, err := open(); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDerivationStays: what is on nodes' disks was sealed with keys derived so.
func TestDerivationStays(t *testing.T) {
	got, err := seal.Derive(key, "holdfast cache: seal")
	if err != nil {
		t.Fatal(err)
	}
	const want = "37b12eaadc331d9a3d0b93c05bfab60fde099fba8ba8d1fa0b474acdbe9eb2c5"
	if hex.EncodeToString(got) != want {
		t.Errorf("derived %x, want %s", got, want)
	}
}

func TestKeysOfAnotherLengthAreRefused(t *testing.T) {
	for _, size := range []int{0, 16, 31, 33} {
		if _, err := seal.New(make([]byte, size), "purpose"); err == nil {
			t.Errorf("a sealing key of %d bytes was taken", size)
		}
	}
}

func sealer(t *testing.T, key []byte, purpose string) *seal.Sealer {
	t.Helper()
	s, err := seal.New(key, purpose)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
