package wire

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// magic begins every protobuf body.
const magic = "k8s\x00"

// Field numbers of k8s.io/apimachinery's generated.proto files.
const (
	envelopeType, envelopeRaw, envelopeEncoding, envelopeMedia = 1, 2, 3, 4
	typeAPIVersion, typeKind                                   = 1, 2
	listMeta, listItems                                        = 1, 2
	listVersion, listContinue, listRemaining                   = 2, 3, 4
	eventType, eventObject, extensionRaw                       = 1, 2, 1
	objectMeta                                                 = 1
	metaName, metaNamespace, metaUID, metaVersion              = 1, 3, 5, 6
	metaLabels, metaAnnotations, metaOwners, metaManaged       = 11, 12, 13, 17
	mapKey, mapValue                                           = 1, 2
)

// fields runs through a message that is whole in memory.
type fields struct {
	b     []byte
	start int // where the field begins
	end   int // where it ends
	num   protowire.Number
	typ   protowire.Type
	bytes []byte // the value if typ is BytesType
	value uint64 // the value if typ is VarintType
	err   error
}

func message(b []byte) fields { return fields{b: b} }

// next goes to the next field.
func (f *fields) next() bool {
	if f.err != nil || f.end == len(f.b) {
		return false
	}
	f.start = f.end
	rest := f.b[f.start:]
	num, typ, n := protowire.ConsumeTag(rest)
	if n < 0 {
		return f.fail(n)
	}
	f.num, f.typ, f.bytes, f.value = num, typ, nil, 0
	rest = rest[n:]
	var size int
	switch typ {
	case protowire.BytesType:
		f.bytes, size = protowire.ConsumeBytes(rest)
	case protowire.VarintType:
		f.value, size = protowire.ConsumeVarint(rest)
	default:
		size = protowire.ConsumeFieldValue(num, typ, rest)
	}
	if size < 0 {
		return f.fail(size)
	}
	f.end = f.start + n + size
	return true
}

func (f *fields) fail(code int) bool {
	f.err = fmt.Errorf("%w protobuf at byte %d: %w", ErrMalformed, f.start, protowire.ParseError(code))
	return false
}

// truncated tells whether a parse error may go away with more bytes.
func truncated(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }

// after takes over the error of a message inside this field.
func (f *fields) after(inner *fields) {
	if f.err == nil {
		f.err = inner.err
	}
}

// all gives the field with its tag.
func (f *fields) all() []byte { return f.b[f.start:f.end] }

// text gives the value of a string or message.
func (f *fields) text() []byte {
	if f.typ != protowire.BytesType {
		f.err = fmt.Errorf("%w protobuf at byte %d: field %d is not a string or message", ErrMalformed, f.start, f.num)
	}
	return f.bytes
}

// envelope is what a body says about the object in it: a runtime.Unknown.
type envelope struct {
	apiVersion, kind []byte
	raw              []byte
	hasRaw           bool
}

// open reads a whole body.
func open(body []byte) (envelope, error) {
	var e envelope
	if len(body) < len(magic) {
		return e, fmt.Errorf("%w: a protobuf body begins with four bytes", ErrTruncated)
	}
	if string(body[:len(magic)]) != magic {
		return e, fmt.Errorf("%w protobuf: the body does not begin with %q", ErrMalformed, magic)
	}
	f := message(body[len(magic):])
	for f.next() {
		if f.num == envelopeRaw {
			e.raw, e.hasRaw = f.text(), true
			continue
		}
		if err := e.take(f.num, f.bytes); err != nil {
			return e, err
		}
	}
	if f.err == nil && !e.hasRaw {
		return e, fmt.Errorf("%w: a protobuf body has no object", ErrTruncated)
	}
	return e, f.err
}

// take reads a field of the envelope other than raw.
func (e *envelope) take(num protowire.Number, value []byte) error {
	switch num {
	case envelopeType:
		f := message(value)
		for f.next() {
			switch f.num {
			case typeAPIVersion:
				e.apiVersion = f.text()
			case typeKind:
				e.kind = f.text()
			}
		}
		return f.err
	case envelopeEncoding:
		if len(value) != 0 {
			return fmt.Errorf("%w protobuf: the object is encoded once more, as %q", ErrMalformed, value)
		}
	case envelopeMedia:
		if len(value) != 0 && string(value) != "application/vnd.kubernetes.protobuf" {
			return fmt.Errorf("%w protobuf: the object is %q", ErrMalformed, value)
		}
	}
	return nil
}
