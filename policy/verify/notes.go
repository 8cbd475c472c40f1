package verify

import (
	"encoding/base64"
	"errors"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// Note is what a note in refs/notes/holdfast carries. Nothing of it is believed: each line proves itself, or does not count.
type Note struct {
	// Countersignatures are SSHSIG blobs, over the commit the note is about.
	Countersignatures [][]byte
	// Reanchors are records that lead away from the commit the note is about.
	Reanchors []ReanchorRecord
}

// ReanchorRecord is one principal's signature under a re-anchoring.
type ReanchorRecord struct {
	To        string
	Signature []byte
}

// ParseNote reads a note. Lines it does not know are passed over, since others may keep notes of their own there; so are
// all signatures after the first limit.
func ParseNote(text []byte, limit int) Note {
	var n Note
	for line := range strings.Lines(string(text)) {
		if len(n.Countersignatures)+len(n.Reanchors) >= limit {
			break
		}
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && fields[0] == wordCountersignature:
			if sig, ok := decodeBlob(fields[1]); ok {
				n.Countersignatures = append(n.Countersignatures, sig)
			}
		case len(fields) == 3 && fields[0] == wordReanchor && isID(fields[1]):
			if sig, ok := decodeBlob(fields[2]); ok {
				n.Reanchors = append(n.Reanchors, ReanchorRecord{To: fields[1], Signature: sig})
			}
		}
	}
	return n
}

func decodeBlob(text string) ([]byte, bool) {
	blob, err := base64.StdEncoding.Strict().DecodeString(text)
	return blob, err == nil && len(blob) > 0 && len(blob) <= maxSSHSignature
}

// notes looks notes up in the tree of refs/notes/holdfast.
type notes struct {
	reader *reader
	root   string // "" if there are none
}

// openNotes opens the notes at a commit; "" gives none. So does one that is malformed: whoever can write notes can also
// delete them, and neither may stop a node.
func openNotes(r *reader, commitID string) (*notes, error) {
	n := &notes{reader: r}
	if commitID == "" {
		return n, nil
	}
	if !isID(commitID) {
		return n, nil
	}
	c, err := r.commit(commitID)
	if err != nil {
		return n, ignorable(err)
	}
	n.root = c.tree
	return n, nil
}

// ignorable passes over what is wrong with notes, and keeps what kept them from being read.
func ignorable(err error) error {
	if rejection(err) != nil || errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// What a lookup may cost, whoever wrote the notes: Git itself cuts folders of more than some hundred notes, and needs two levels for millions.
const (
	maxFanOut       = 4
	maxNotesFolder  = 1 << 20
	notesFolderName = "a folder of refs/notes/holdfast"
)

// of gives the note about an object.
func (n *notes) of(id string) (Note, error) {
	if n.root == "" {
		return Note{}, nil
	}
	blob, err := n.lookup(id)
	if err != nil || blob == "" {
		return Note{}, ignorable(err)
	}
	text, err := n.reader.object(blob, kindBlob, "the note of "+short(id), n.reader.limits.NoteBytes)
	if err != nil {
		return Note{}, ignorable(err)
	}
	return ParseNote(text, n.reader.limits.NoteSignatures), nil
}

// lookup gives the id of the note's blob, or "". A name is the object's id, cut into folders of two digits as deep as Git saw
// fit when it wrote the notes.
func (n *notes) lookup(id string) (string, error) {
	tree, rest := n.root, id
	for range maxFanOut {
		raw, err := n.reader.boundedTree(tree, notesFolderName, maxNotesFolder)
		if err != nil {
			return "", err
		}
		e, ok, err := find(raw, rest)
		if err != nil {
			return "", reject(TreeInvalid, "the notes' tree is malformed: %v", err)
		}
		if ok && (e.mode == modeFile || e.mode == modeExecutable) {
			return e.hexID(), nil
		}
		e, ok, err = find(raw, rest[:2])
		if err != nil {
			return "", reject(TreeInvalid, "the notes' tree is malformed: %v", err)
		}
		if !ok || e.mode != modeTree {
			return "", nil
		}
		tree, rest = e.hexID(), rest[2:]
	}
	return "", nil
}

// ReadNote gives the note about an object and its raw text, from the notes at a commit. Commands use it to add a line.
func ReadNote(o Objects, notesCommit, id string, l Limits) (Note, []byte, error) {
	r := newReader(o, l)
	n, err := openNotes(r, notesCommit)
	if err != nil || n.root == "" {
		return Note{}, nil, err
	}
	blob, err := n.lookup(id)
	if err != nil || blob == "" {
		return Note{}, nil, ignorable(err)
	}
	text, err := r.object(blob, kindBlob, "the note of "+short(id), r.limits.NoteBytes)
	if err != nil {
		return Note{}, nil, err
	}
	return ParseNote(text, r.limits.NoteSignatures), text, nil
}

// signerOf judges one countersignature or re-anchor record: who made it, or why it does not count.
func signerOf(blob []byte, namespace string, message []byte, t *trust.Trust, at int64) (principal string, problem error) {
	sig, err := parseSSH(blob)
	if err != nil {
		return "", errors.New("a signature that cannot be read")
	}
	principal, err = t.SSHPrincipal(sig.PublicKey, namespace, unix(at))
	if errors.Is(err, trust.ErrUnknownKey) {
		return "", errors.New("key " + ssh.FingerprintSHA256(sig.PublicKey) + ", which no principal holds")
	}
	if bad := checkSSH(sig, namespace, message); bad != nil {
		return "", errors.New("a key of " + principal + ", but over another commit or for another fleet")
	}
	if err != nil {
		return "", err
	}
	return principal, nil
}
