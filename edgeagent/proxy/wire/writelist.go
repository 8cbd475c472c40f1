package wire

import (
	"fmt"
	"io"
	"iter"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// WriteList writes the body of a LIST. Protobuf says the length first, so items is then run through twice: it must be the same
// each time. Items must be in the list's encoding.
func WriteList(w io.Writer, encoding scope.Encoding, list List, items iter.Seq2[scope.Item, error]) error {
	var size int64
	if encoding == scope.Protobuf {
		for item, err := range items {
			if err != nil {
				return fmt.Errorf("write list: %w", err)
			}
			size += ItemSize(len(item.Raw))
		}
	}
	writer := NewListWriter(w, encoding, list, size)
	for item, err := range items {
		if err == nil {
			err = writer.Write(item)
		}
		if err != nil {
			return fmt.Errorf("write list: %w", err)
		}
	}
	return writer.Close()
}

// ListWriter writes the body of a LIST whose items' size is known, in one run.
type ListWriter struct {
	w        io.Writer
	encoding scope.Encoding
	left     int64 // of the promised size
	pending  []byte
	items    int
	err      error
}

// NewListWriter makes a writer. size is the sum of ItemSize over the items that will be written; JSON does not need it.
func NewListWriter(w io.Writer, encoding scope.Encoding, list List, size int64) *ListWriter {
	l := &ListWriter{w: w, encoding: encoding, left: size, pending: make([]byte, 0, 128)}
	switch encoding {
	case scope.JSON:
		l.pending = appendJSONHead(l.pending, list)
	case scope.Protobuf:
		l.pending = appendProtoHead(l.pending, list, size)
	default:
		l.err = unknownEncoding(encoding)
	}
	return l
}

func appendJSONHead(dst []byte, list List) []byte {
	dst = appendNames(append(dst, '{'), list.APIVersion, list.Kind.Kind)
	dst = append(dst, `,"metadata":{"resourceVersion":`...)
	dst = appendQuoted(dst, list.Version)
	if list.Continue != "" {
		dst = appendQuoted(append(dst, `,"continue":`...), list.Continue)
	}
	if list.Remaining != 0 {
		dst = strconv.AppendInt(append(dst, `,"remainingItemCount":`...), list.Remaining, 10)
	}
	return append(dst, `},"items":[`...)
}

func appendProtoHead(dst []byte, list List, size int64) []byte {
	meta := appendListMeta(nil, list)
	raw := 1 + protowire.SizeBytes(len(meta)) + int(size)
	dst = appendEnvelopeHead(dst, list.APIVersion, list.Kind.Kind, raw)
	return appendBytes(dst, listMeta, meta)
}

func appendListMeta(dst []byte, list List) []byte {
	dst = appendText(dst, 1, "") // selfLink: always there
	dst = appendText(dst, listVersion, list.Version)
	dst = appendText(dst, listContinue, list.Continue)
	if list.Remaining != 0 {
		dst = protowire.AppendTag(dst, listRemaining, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(list.Remaining))
	}
	return dst
}

// ItemSize is what an item with raw bytes takes in a list.
func ItemSize(raw int) int64 { return int64(1 + protowire.SizeBytes(raw)) }

// Write writes the next item.
func (w *ListWriter) Write(item scope.Item) error {
	if w.err != nil {
		return w.err
	}
	if item.Encoding != w.encoding {
		w.err = fmt.Errorf("item %s %s is in encoding %d, its list in %d: convert it first", item.Kind, item.Name, item.Encoding, w.encoding)
		return w.err
	}
	if w.encoding == scope.JSON {
		if w.items > 0 {
			w.pending = append(w.pending, ',')
		}
	} else {
		if w.left -= ItemSize(len(item.Raw)); w.left < 0 {
			w.err = fmt.Errorf("write list: item %s %s is more than the size promised: the items changed on the way", item.Kind, item.Name)
			return w.err
		}
		w.pending = protowire.AppendTag(w.pending, listItems, protowire.BytesType)
		w.pending = protowire.AppendVarint(w.pending, uint64(len(item.Raw)))
	}
	w.items++
	w.flush()
	w.put(item.Raw)
	return w.err
}

// Close ends the list. It is an error if the items were not as large as promised.
func (w *ListWriter) Close() error {
	if w.err == nil && w.encoding == scope.Protobuf && w.left != 0 {
		w.err = fmt.Errorf("write list: the items are %d bytes smaller than promised: they changed on the way", w.left)
	}
	if w.encoding == scope.JSON {
		w.pending = append(w.pending, "]}\n"...)
	} else {
		w.pending = append(w.pending, envelopeTail...)
	}
	w.flush()
	return w.err
}

func (w *ListWriter) flush() {
	w.put(w.pending)
	w.pending = w.pending[:0]
}

func (w *ListWriter) put(b []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
	}
}
