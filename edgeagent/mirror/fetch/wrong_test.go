package fetch

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/blob"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// TestCorruption: who gives something else is not asked again, and nobody gets it whole.
func TestCorruption(t *testing.T) {
	data := stuff(1 << 20)
	damaged := bytes.Clone(data)
	damaged[1000]++
	liar := func() *scripted { s := gives(damaged); s.name = "liar"; return s }

	t.Run("another source is right", func(t *testing.T) {
		f, bad := newFetcher(t), liar()
		good := &scripted{name: "good", answer: func(n int, _ Want, from int64) (*upstream.Blob, error) {
			if n == 0 {
				return nil, kind(upstream.Broken)
			}
			return body(len(data), bytes.NewReader(data[from:])), nil
		}}
		if err := f.Await(t.Context(), wantOf(data), bad, good); err != nil {
			t.Fatal(err)
		}
		mustRead(t, f, data)
		if len(bad.asked()) != 1 || !slices.Equal(good.asked(), []int64{0, 0}) {
			t.Errorf("the liar was asked %v, the other %v", bad.asked(), good.asked())
		}
	})
	t.Run("nobody is right", func(t *testing.T) {
		f, bad := newFetcher(t), liar()
		err := f.Await(t.Context(), wantOf(data), bad)
		if wantKind(t, err, upstream.ErrorPage); len(bad.asked()) != 1 {
			t.Errorf("the liar was asked %d times", len(bad.asked()))
		}
		mustRead(t, f, data, gives(data))
	})
	t.Run("no reader gets it whole", func(t *testing.T) {
		got, err := read(t.Context(), newFetcher(t), wantOf(data), liar())
		if err == nil || len(got) >= len(data) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	})
}

// TestBlame: where several sources gave, or an earlier fetch left something, it is not known who was wrong.
func TestBlame(t *testing.T) {
	data, half := stuff(1<<20), 1<<19
	damaged := bytes.Clone(data)
	damaged[1000]++

	t.Run("of two the first lied", func(t *testing.T) {
		f, good := newFetcher(t), gives(data)
		bad := &scripted{name: "liar", answer: func(int, Want, int64) (*upstream.Blob, error) {
			return body(len(data), bytes.NewReader(damaged[:half]), broken(upstream.Stalled)), nil
		}}
		if err := f.Await(t.Context(), wantOf(data), bad, good); err != nil {
			t.Fatal(err)
		}
		if asked := good.asked(); !slices.Equal(asked, []int64{int64(half), 0}) {
			t.Errorf("the other was asked from %v, want from the middle and then from the beginning", asked)
		}
	})
	t.Run("what an earlier fetch left", func(t *testing.T) {
		f := newFetcher(t)
		bad := &scripted{name: "liar", answer: func(n int, _ Want, _ int64) (*upstream.Blob, error) {
			if n > 0 {
				return nil, kind(upstream.NotFound)
			}
			return body(len(data), bytes.NewReader(damaged[:half]), broken(upstream.Stalled)), nil
		}}
		wantKind(t, f.Await(t.Context(), wantOf(data), bad), upstream.NotFound)
		good := gives(data)
		if err := f.Await(t.Context(), wantOf(data), good); err != nil {
			t.Fatal(err)
		}
		if asked := good.asked(); !slices.Equal(asked, []int64{int64(half), 0}) {
			t.Errorf("asked from %v", asked)
		}
	})
}

// TestWrongSizes: what a source says of the size is believed no more than its bytes.
func TestWrongSizes(t *testing.T) {
	data, half := stuff(1<<20), 1<<19

	t.Run("a size that was a lie", func(t *testing.T) {
		f, unknown := newFetcher(t), wantOf(data)
		unknown.Size = -1
		bad := &scripted{name: "liar", answer: func(n int, _ Want, _ int64) (*upstream.Blob, error) {
			if n > 0 {
				return nil, kind(upstream.NotFound)
			}
			return body(2*len(data), bytes.NewReader(data[:half]), broken(upstream.Stalled)), nil
		}}
		wantKind(t, f.Await(t.Context(), unknown, bad), upstream.NotFound)
		honest := &scripted{name: "honest", answer: func(_ int, want Want, from int64) (*upstream.Blob, error) {
			if want.Size >= 0 && want.Size != int64(len(data)) {
				return nil, kind(upstream.ErrorPage)
			}
			return body(len(data), bytes.NewReader(data[from:])), nil
		}}
		if err := f.Await(t.Context(), unknown, honest); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a size other than the manifest's", func(t *testing.T) {
		f, bad := newFetcher(t), &scripted{name: "liar", answer: func(int, Want, int64) (*upstream.Blob, error) {
			return body(7, bytes.NewReader(data)), nil
		}}
		_, err := f.Blob(t.Context(), wantOf(data), bad)
		wantKind(t, err, upstream.ErrorPage)
		mustRead(t, f, data, bad, gives(data))
	})
	t.Run("longer than it should be", func(t *testing.T) {
		f, bad := newFetcher(t), &scripted{name: "liar", answer: func(int, Want, int64) (*upstream.Blob, error) {
			return body(len(data), bytes.NewReader(data), bytes.NewReader(data)), nil
		}}
		if err := f.Await(t.Context(), wantOf(data), bad, gives(data)); err != nil {
			t.Fatal(err)
		}
	})
}

func manifestOf(layer []byte) []byte {
	config := []byte("{}")
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`, oci.MediaTypeManifest,
		oci.SHA256.FromBytes(config), len(config), oci.SHA256.FromBytes(layer), len(layer))
}

func TestManifest(t *testing.T) {
	dir := t.TempDir()
	f, raw := fetcher(t, openStore(t, dir, blob.Budget{})), manifestOf([]byte("layer"))
	want, source := wantOf(raw), gives(raw)
	want.Size = -1
	m, err := f.Manifest(t.Context(), want, source)
	if err != nil || string(m.Raw) != string(raw) || m.MediaType != oci.MediaTypeManifest || !m.Proved || len(m.Layers) != 1 {
		t.Fatalf("got %+v, %v", m, err)
	}
	if m, err = f.Manifest(t.Context(), want); err != nil || m.Proved {
		t.Errorf("from the store: %+v, %v", m, err)
	}
	// What the disk has damaged is fetched again.
	path := filepath.Join(dir, "sha256", want.Digest.Hex()[:2], want.Digest.Hex())
	if err := os.WriteFile(path, append([]byte("!"), raw[1:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err = f.Manifest(t.Context(), want, source); err != nil || string(m.Raw) != string(raw) || len(source.asked()) != 2 {
		t.Errorf("after damage: %+v, %v, asked %d times", m, err, len(source.asked()))
	}
	for _, data := range [][]byte{[]byte("no manifest"), stuff(oci.MaxManifestSize + 1)} {
		_, err = f.Manifest(t.Context(), wantOf(data), gives(data))
		wantKind(t, err, upstream.NotFound)
	}
	_, err = f.Manifest(t.Context(), wantOf([]byte("x")), fails(upstream.Denied))
	wantKind(t, err, upstream.Denied)
}
