package cache

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Buckets of the file.
const (
	bucketMeta      = "meta"      // format, the sealing key's proof, totals
	bucketScopes    = "scopes"    // number → scopeRecord
	bucketRefs      = "refs"      // number of scope, namespace, 0, name → reference
	bucketObjects   = "objects"   // content id → object
	bucketDocuments = "documents" // id → document
	bucketTokens    = "tokens"    // id → token
	bucketOutbox    = "outbox"    // bucket, 0, key → queued value
)

var buckets = []string{bucketMeta, bucketScopes, bucketRefs, bucketObjects, bucketDocuments, bucketTokens, bucketOutbox}

// Objects and documents are long. Each is in a bucket of its own, named by its id: bbolt puts up to four long values on one run of pages
// and writes all when one changes. A bucket has pages of its own, or is a part of its parent's if it is short.

var keyValue = []byte("v")

// getLong gives a long record, or nil.
func getLong(b *bbolt.Bucket, key []byte) []byte {
	if own := b.Bucket(key); own != nil {
		return own.Get(keyValue)
	}
	return nil
}

func putLong(b *bbolt.Bucket, key, record []byte) error {
	own, err := b.CreateBucketIfNotExists(key)
	if errors.Is(err, berrors.ErrIncompatibleValue) { // damage made it no bucket
		if err = b.Delete(key); err == nil {
			own, err = b.CreateBucket(key)
		}
	}
	if err != nil {
		return err
	}
	return own.Put(keyValue, record)
}

func deleteLong(b *bbolt.Bucket, key []byte) error {
	switch err := b.DeleteBucket(key); {
	case errors.Is(err, berrors.ErrBucketNotFound):
		return nil
	case errors.Is(err, berrors.ErrIncompatibleValue):
		return b.Delete(key)
	default:
		return err
	}
}

// A record is a byte that says whether it is sealed, a checksum of its bucket, key and body, and the body. bbolt guards only
// its two meta pages, so a record guards itself, also against being found under another key.
const (
	plain      = 1
	sealed     = 2
	recordHead = 9
)

func checksum(kind byte, bucket string, key, body []byte) uint64 {
	h := xxhash.Sum64(body)
	h = bits.RotateLeft64(h, 21) + xxhash.Sum64(key)
	return bits.RotateLeft64(h, 17)*0x9E3779B185EBCA87 + xxhash.Sum64String(bucket) + uint64(kind)
}

// encode makes a record.
func (s *sealer) encode(bucket string, key, body []byte, seal bool) []byte {
	record := make([]byte, recordHead, recordHead+len(body)+64)
	record[0] = plain
	if seal {
		record[0] = sealed
		record = s.seal(record, bucket, key, body)
	} else {
		record = append(record, body...)
	}
	binary.BigEndian.PutUint64(record[1:], checksum(record[0], bucket, key, record[recordHead:]))
	return record
}

// check proves a record without opening it.
func check(bucket string, key, record []byte) error {
	if len(record) < recordHead || record[0] != plain && record[0] != sealed {
		return fmt.Errorf("record in %s: %w: cut short", bucket, ErrDamaged)
	}
	if sumOf(record) != checksum(record[0], bucket, key, record[recordHead:]) {
		return fmt.Errorf("record in %s: %w: its checksum does not match", bucket, ErrDamaged)
	}
	return nil
}

func sumOf(record []byte) uint64 { return binary.BigEndian.Uint64(record[1:]) }

// decode proves a record and gives its body: a part of the record, or what was sealed in it.
func (s *sealer) decode(bucket string, key, record []byte) ([]byte, error) {
	if err := check(bucket, key, record); err != nil {
		return nil, err
	}
	return s.unseal(bucket, key, record)
}

// unseal is decode for a record that was checked.
func (s *sealer) unseal(bucket string, key, record []byte) ([]byte, error) {
	if record[0] == plain {
		return record[recordHead:], nil
	}
	return s.open(bucket, key, record[recordHead:])
}

// scopeRecord is a scope on disk.
type scopeRecord struct {
	Key     scope.Key  `json:"key"`
	Kind    scope.Kind `json:"kind"`
	Version string     `json:"version"`
	Read    time.Time  `json:"read"`
	Used    time.Time  `json:"used"`
	// Items, Bytes and Digest are over the scope's references: a list that lost one cannot be taken for a shorter list.
	Items  int    `json:"items"`
	Bytes  int64  `json:"bytes"`
	Digest uint64 `json:"digest"`
}

// totals proves what has no scope of its own to prove it.
type totals struct {
	Newest  time.Time      `json:"newest"`
	Scopes  digest         `json:"scopes"`
	Outbox  digest         `json:"outbox"`
	Dropped map[string]int `json:"dropped,omitempty"`
}

// digest is a sum over the checksums of records, in any order.
type digest struct {
	Count int    `json:"count"`
	Sum   uint64 `json:"sum"`
}

func (d *digest) add(record []byte)    { d.Count++; d.Sum += sumOf(record) }
func (d *digest) remove(record []byte) { d.Count--; d.Sum -= sumOf(record) }

// reference is what a scope keeps of each object.
type reference struct {
	content id
	essence uint64
	size    uint32
}

func (r reference) encode() []byte {
	b := binary.BigEndian.AppendUint64(r.content[:], r.essence)
	return binary.BigEndian.AppendUint32(b, r.size)
}

// decodeReference takes a record that was checked.
func decodeReference(record []byte) (reference, error) {
	b := record[recordHead:]
	if len(b) != 28 {
		return reference{}, fmt.Errorf("reference: %w: it has %d bytes", ErrDamaged, len(b))
	}
	return reference{id(b[:16]), binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint32(b[24:])}, nil
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func appendRef(dst []byte, n uint64, namespace, name string) []byte {
	dst = binary.BigEndian.AppendUint64(dst, n)
	dst = append(dst, namespace...)
	dst = append(dst, 0)
	return append(dst, name...)
}

// An object is its encoding (1 byte), essence (8), six strings with their lengths, and its bytes.

func encodeObject(it *scope.Item) []byte {
	head := 9 + 6*2 + len(it.Namespace) + len(it.Name) + len(it.UID) + len(it.Version) + len(it.APIVersion) + len(it.Kind)
	b := make([]byte, 0, head+len(it.Raw))
	b = append(b, byte(it.Encoding))
	b = binary.BigEndian.AppendUint64(b, it.Essence)
	for _, s := range []string{it.Namespace, it.Name, it.UID, it.Version, it.APIVersion, it.Kind} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return append(b, it.Raw...)
}

var errShort = fmt.Errorf("object: %w: cut short", ErrDamaged)

// decodeObject gives an object whose Raw is a part of body.
func decodeObject(body []byte) (it scope.Item, err error) {
	if len(body) < 9 {
		return it, errShort
	}
	it.Encoding, it.Essence = scope.Encoding(body[0]), binary.BigEndian.Uint64(body[1:])
	var ends [6][2]int
	at := 9
	for i := range ends {
		n, used := binary.Uvarint(body[at:])
		if used <= 0 || n > uint64(len(body)-at-used) {
			return it, errShort
		}
		ends[i] = [2]int{at + used, at + used + int(n)}
		at = ends[i][1]
	}
	head := string(body[:at]) // one allocation for six strings
	for i, s := range []*string{&it.Namespace, &it.Name, &it.UID, &it.Version, &it.APIVersion, &it.Kind} {
		*s = head[ends[i][0]:ends[i][1]]
	}
	it.Raw = body[at:len(body):len(body)]
	return it, nil
}

// A document or token is JSON of what is known about it, with its length before it, and its bytes.

type note struct {
	Identity    string    `json:"identity,omitempty"`
	Path        string    `json:"path,omitempty"`
	ContentType string    `json:"contentType,omitempty"`
	ETag        string    `json:"etag,omitempty"`
	Gzipped     bool      `json:"gzipped,omitempty"`
	At          time.Time `json:"at"`
	Seq         uint64    `json:"seq,omitempty"`
}

func (n note) encode(body []byte) ([]byte, error) {
	head, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, 4+len(head)+len(body))
	b = binary.BigEndian.AppendUint32(b, uint32(len(head)))
	return append(append(b, head...), body...), nil
}

func decodeNote(b []byte) (n note, body []byte, err error) {
	if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
		return n, nil, fmt.Errorf("%w: cut short", ErrDamaged)
	}
	end := 4 + int(binary.BigEndian.Uint32(b))
	if err := json.Unmarshal(b[4:end], &n); err != nil {
		return n, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return n, b[end:], nil
}

// outboxKey is the key of a value of the outbox.
func outboxKey(bucket, key string) ([]byte, error) {
	switch {
	case strings.ContainsRune(bucket, 0) || bucket == "":
		return nil, fmt.Errorf("outbox: %q is no name for a bucket", bucket)
	case len(bucket)+len(key) > 4096:
		return nil, errors.New("outbox: the key has more than 4096 bytes")
	}
	return append(append([]byte(bucket), 0), key...), nil
}

// isSealed tells whether a resource's objects are sealed.
func isSealed(r scope.Resource) bool { return r.Resource == "secrets" }

// isSealedPath tells whether a document may hold Secrets.
func isSealedPath(path string) bool { return strings.Contains(path, "/secrets") }
