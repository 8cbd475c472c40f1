package verify

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

const (
	sshBegin = "-----BEGIN SSH SIGNATURE-----"
	sshEnd   = "-----END SSH SIGNATURE-----"
)

// maxSSHSignature bounds one SSHSIG blob: an RSA key of 16,384 bits makes 4 KiB.
const maxSSHSignature = 16 << 10

// unarmorSSH reads one armored SSH signature, with nothing before it and only line ends after it.
func unarmorSSH(text string) (*sshsig.Signature, error) {
	body, ok := strings.CutPrefix(text, sshBegin+"\n")
	if !ok {
		return nil, errors.New("the armor's first line is malformed")
	}
	body, tail, ok := strings.Cut(body, sshEnd)
	if !ok || strings.Trim(tail, "\n") != "" {
		return nil, errors.New("the armor does not end where it should")
	}
	return decodeSSH(strings.ReplaceAll(body, "\n", ""))
}

// decodeSSH reads an SSHSIG blob in base64.
func decodeSSH(text string) (*sshsig.Signature, error) {
	if len(text) > base64.StdEncoding.EncodedLen(maxSSHSignature) {
		return nil, fmt.Errorf("over the bound of %d bytes", maxSSHSignature)
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errors.New("not base64")
	}
	return parseSSH(blob)
}

// parseSSH reads an SSHSIG blob.
func parseSSH(blob []byte) (*sshsig.Signature, error) {
	if len(blob) > maxSSHSignature {
		return nil, fmt.Errorf("over the bound of %d bytes", maxSSHSignature)
	}
	sig, err := sshsig.ParseSignature(blob)
	if err != nil {
		return nil, err
	}
	if _, isCert := sig.PublicKey.(*ssh.Certificate); isCert {
		return nil, errors.New("made with a certificate, which is not supported")
	}
	if securityKey := strings.HasPrefix(sig.PublicKey.Type(), "sk-"); !securityKey && len(sig.Signature.Rest) > 0 {
		return nil, errors.New("something follows the signature")
	}
	return sig, nil
}

// checkSSH holds a signature against the message. That its key may sign is the trust's business.
func checkSSH(sig *sshsig.Signature, namespace string, message []byte) error {
	if sig.Namespace != namespace {
		return fmt.Errorf("made for namespace %q, not %q", sig.Namespace, namespace)
	}
	if err := sshsig.Verify(bytes.NewReader(message), sig, sig.PublicKey, sig.HashAlgorithm, namespace); err != nil {
		return errors.New("over other bytes than these")
	}
	return nil
}
