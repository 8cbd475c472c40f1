package verify

import (
	"bytes"
	"encoding/base64"
	"fmt"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// First words of the lines of a note that carry something.
const (
	wordCountersignature = "countersignature"
	wordReanchor         = "re-anchor"
)

// Countersign signs a commit for a fleet and gives the line to append to the commit's note in refs/notes/holdfast.
// rawCommit is the commit object's whole content, with its own signature.
func Countersign(rawCommit []byte, fleetID string, signer ssh.Signer) (string, error) {
	sig, err := signSSH(signer, trust.NamespaceCountersign, countersignMessage(fleetID, rawCommit))
	if err != nil {
		return "", fmt.Errorf("countersign: %w", err)
	}
	return wordCountersignature + " " + sig + "\n", nil
}

// Reanchor signs a re-anchor record, which permits a node of the fleet whose newest accepted revision is from to go on at
// to, though to does not descend from it. It gives the line to append to the note of from.
func Reanchor(from, to, fleetID string, signer ssh.Signer) (string, error) {
	if !isID(from) || !isID(to) {
		return "", fmt.Errorf("re-anchor %q to %q: both must be whole commit ids of 40 hex digits", from, to)
	}
	sig, err := signSSH(signer, trust.NamespaceReanchor, reanchorMessage(fleetID, from, to))
	if err != nil {
		return "", fmt.Errorf("re-anchor: %w", err)
	}
	return wordReanchor + " " + to + " " + sig + "\n", nil
}

// countersignMessage is what a countersignature is over. `ssh-keygen -Y sign` can make one, too: see docs/trust.md.
func countersignMessage(fleetID string, rawCommit []byte) []byte {
	return append([]byte("holdfast countersignature 1\nfleet "+fleetID+"\n\n"), rawCommit...)
}

// reanchorMessage is what a re-anchor record is over.
func reanchorMessage(fleetID, from, to string) []byte {
	return []byte("holdfast re-anchor 1\nfleet " + fleetID + "\nfrom " + from + "\nto " + to + "\n")
}

// signSSH gives the SSHSIG blob in base64, on one line: notes that are merged line by line stay whole.
func signSSH(signer ssh.Signer, namespace string, message []byte) (string, error) {
	sig, err := sshsig.Sign(bytes.NewReader(message), signer, sshsig.HashSHA512, namespace)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(sig.Marshal()), nil
}

// isID tells whether s is a whole object id: 40 lower-case hex digits.
func isID(s string) bool {
	if len(s) != 40 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
