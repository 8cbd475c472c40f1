package wire

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// TestHeldMemory: what is announced costs nothing until it comes, and nothing is held between values.
func TestHeldMemory(t *testing.T) {
	t.Parallel()
	frame := binary.BigEndian.AppendUint32(nil, 8<<20)
	w := &protoWatch{hold: holder{limit: frameHead + 8<<20}}
	for _, piece := range [][]byte{frame, []byte("\x0a")} {
		if _, _, _, err := w.next(piece); err != nil {
			t.Fatal(err)
		}
	}
	if held := cap(w.hold.buf); held > 64<<10 {
		t.Errorf("one byte of a frame of 8 MiB holds %d bytes", held)
	}
	l := &protoList{hold: holder{limit: 16 << 20}, each: func(scope.Item) error { return nil }}
	head := "k8s\x00\x0a\x0d\x0a\x02v1\x12\x07PodList"
	if err := l.write([]byte(head + "\x12\x80\x80\x80\x08\x12\x80\x80\x80\x04\x0a")); err != nil { // an item of 8 MiB
		t.Fatal(err)
	}
	if held := cap(l.hold.buf); held > 64<<10 {
		t.Errorf("one byte of an item of 8 MiB holds %d bytes", held)
	}
}

// TestHeldAfterFrames: two hundred idle watches must not hold two hundred buffers.
func TestHeldAfterFrames(t *testing.T) {
	t.Parallel()
	item := scope.Item{APIVersion: "v1", Kind: "Pod", Encoding: scope.JSON, Raw: []byte(`{"a":"` + strings.Repeat("x", 100_000) + `"}`)}
	stream, err := AppendFrame(nil, Added, item)
	if err != nil {
		t.Fatal(err)
	}
	j := &jsonWatch{hold: holder{limit: 8 << 20}}
	item.Encoding = scope.Protobuf
	item.Raw = appendText(nil, 9, strings.Repeat("x", 100_000))
	protoStream, err := AppendFrame(nil, Added, item)
	if err != nil {
		t.Fatal(err)
	}
	p := &protoWatch{hold: holder{limit: 8 << 20}}
	for name, watch := range map[string]struct {
		stream []byte
		next   func([]byte) (int, Frame, bool, error)
		hold   *holder
	}{"json": {stream, j.next, &j.hold}, "protobuf": {protoStream, p.next, &p.hold}} {
		frames := 0
		for piece := range splits(watch.stream, 1000) {
			for len(piece) > 0 {
				n, frame, whole, err := watch.next(piece)
				if err != nil {
					t.Fatal(err)
				}
				if whole {
					frames++
					if waste := cap(frame.Raw) - len(frame.Raw); waste > len(frame.Raw)/4 {
						t.Errorf("%s: %d bytes of %d are wasted", name, waste, cap(frame.Raw))
					}
				}
				piece = piece[n:]
			}
		}
		if frames != 1 || watch.hold.buf != nil {
			t.Errorf("%s: %d frames, then %d bytes are held", name, frames, cap(watch.hold.buf))
		}
	}
}

// splits gives b in pieces of a size.
func splits(b []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(size, len(b))
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// TestHolderLimit: pieces are refused before they are kept.
func TestHolderLimit(t *testing.T) {
	t.Parallel()
	h := holder{limit: 10}
	if err := h.add(make([]byte, 6), 0); err != nil {
		t.Fatal(err)
	}
	if err := h.add(make([]byte, 5), 0); err == nil {
		t.Error("11 bytes are held of 10")
	}
	if err := h.add(make([]byte, 1), 4); err == nil {
		t.Error("11 bytes are announced of 10")
	}
	if _, err := h.peek(make([]byte, 5)); err == nil {
		t.Error("11 bytes are given of 10")
	}
	if got, err := (&holder{limit: 10}).peek([]byte("abc")); err != nil || !bytes.Equal(got, []byte("abc")) {
		t.Errorf("got %q, %v", got, err)
	}
}
