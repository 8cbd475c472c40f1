package verify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

const (
	pgpBegin = "-----BEGIN PGP SIGNATURE-----"
	// maxPGPSignature bounds one armored OpenPGP signature.
	maxPGPSignature = 64 << 10
)

// own is what a commit's own signature comes to.
type own struct {
	// principal is who signed, or "" if the signature does not count. Then reason and problem say why.
	principal string
	key       string
	reason    string
	problem   string
}

// ownSignature judges the signature in a commit by the trust. The error is a rejection that no countersignature makes up for:
// a commit with two signatures does not say who its signer is.
func ownSignature(c *commit, t *trust.Trust) (own, error) {
	armors := 0
	for _, s := range c.signatures {
		armors += max(1, strings.Count(s.value, "-----BEGIN "))
	}
	switch {
	case armors == 0:
		return own{reason: Unsigned, problem: "it carries no signature"}, nil
	case armors > 1:
		return own{}, reject(MultipleSignatures, "commit %s carries %d signatures: exactly one is allowed, others are countersignatures", short(c.id), armors)
	}
	s := c.signatures[0]
	switch {
	case s.name != "gpgsig":
		return own{reason: BadSignature, problem: fmt.Sprintf("its signature is in header %s, of another object format", s.name)}, nil
	case strings.HasPrefix(s.value, sshBegin):
		return ownSSH(s.value, c.payload, c.date, t), nil
	case strings.HasPrefix(s.value, pgpBegin):
		return ownPGP(s.value, c, t)
	}
	return own{reason: BadSignature, problem: "its signature is neither SSH nor OpenPGP"}, nil
}

func ownSSH(armored string, payload []byte, at time.Time, t *trust.Trust) own {
	sig, err := unarmorSSH(armored)
	if err != nil {
		return own{reason: BadSignature, problem: fmt.Sprintf("its SSH signature cannot be read: %v", err)}
	}
	o := own{key: ssh.FingerprintSHA256(sig.PublicKey)}
	principal, err := t.SSHPrincipal(sig.PublicKey, trust.NamespaceGit, at)
	if errors.Is(err, trust.ErrUnknownKey) {
		o.reason, o.problem = UnknownKey, fmt.Sprintf("it is signed with %s key %s, which no principal holds", sig.PublicKey.Type(), o.key)
		return o
	}
	if bad := checkSSH(sig, trust.NamespaceGit, payload); bad != nil {
		o.reason, o.problem = BadSignature, fmt.Sprintf("its SSH signature with a key of %s is %v", principal, bad)
		return o
	}
	if err != nil {
		o.reason, o.problem = KeyNotValid, err.Error()
		return o
	}
	o.principal = principal
	return o
}

func ownPGP(armored string, c *commit, t *trust.Trust) (own, error) {
	sig, err := readPGPSignature(armored)
	if errors.Is(err, errTwoPackets) {
		return own{}, reject(MultipleSignatures, "commit %s carries more than one OpenPGP signature: exactly one is allowed", short(c.id))
	}
	if err != nil {
		return own{reason: BadSignature, problem: fmt.Sprintf("its OpenPGP signature cannot be read: %v", err)}, nil
	}
	principal, key, err := t.PGPPrincipal(sig, c.payload, c.date)
	o := own{key: key}
	if err == nil {
		o.principal = principal
		return o, nil
	}
	o.problem = err.Error()
	switch {
	case errors.Is(err, trust.ErrUnknownKey):
		o.reason = UnknownKey
		o.problem = fmt.Sprintf("it is signed with OpenPGP key %016X, which no principal holds", *sig.IssuerKeyId)
	case errors.Is(err, trust.ErrKeyNotValid):
		o.reason = KeyNotValid
	default:
		o.reason = BadSignature
	}
	return o, nil
}

var errTwoPackets = errors.New("more than one signature")

// readPGPSignature reads armor that holds one binary detached signature, and nothing else.
func readPGPSignature(armored string) (*packet.Signature, error) {
	if len(armored) > maxPGPSignature {
		return nil, fmt.Errorf("over the bound of %d bytes", maxPGPSignature)
	}
	in := strings.NewReader(armored)
	block, err := armor.Decode(in)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(block.Body)
	if err != nil {
		return nil, err
	}
	packets := bytes.NewReader(body)
	p, err := packet.Read(packets)
	if err != nil {
		return nil, err
	}
	sig, ok := p.(*packet.Signature)
	if !ok || sig.SigType != packet.SigTypeBinary {
		return nil, errors.New("not a signature of a document")
	}
	if packets.Len() > 0 {
		return nil, errTwoPackets
	}
	return sig, nil
}
