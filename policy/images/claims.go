package images

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// What the signed messages must say of themselves. Without it a key's other signatures would count: over a bill of materials,
// a scan that failed, or by a program that is not cosign.
const (
	payloadType       = "cosign container image signature"
	inTotoType        = "application/vnd.in-toto+json"
	statementType     = "https://in-toto.io/Statement/v1"
	signPredicateType = "https://sigstore.dev/cosign/sign/v1"
)

// payloadAbout tells whether a payload in the format "simple signing" vouches for an image. The name of the image in it does not
// count, as in cosign: images move between registries.
func payloadAbout(payload []byte, digest string) error {
	var p struct {
		Critical struct {
			Type  string `json:"type"`
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
		} `json:"critical"`
	}
	if err := decodeSigned(payload, &p); err != nil {
		return err
	}
	if p.Critical.Type != payloadType {
		return fmt.Errorf("it is of type %.80q, not %q", p.Critical.Type, payloadType)
	}
	if p.Critical.Image.Digest != digest {
		return fmt.Errorf("it is over another image: %.160q", p.Critical.Image.Digest)
	}
	return nil
}

// statementAbout tells whether an in-toto statement vouches for an image.
func statementAbout(payload []byte, digest string) error {
	var s struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
		Subject       []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
	}
	if err := decodeSigned(payload, &s); err != nil {
		return err
	}
	if s.Type != statementType || s.PredicateType != signPredicateType {
		return fmt.Errorf("it attests %.160q (%.80q), which does not vouch for an image", s.PredicateType, s.Type)
	}
	algorithm, want, err := splitDigest(digest)
	if err != nil {
		return err
	}
	for _, subject := range s.Subject {
		if subject.Digest[algorithm] == want {
			return nil
		}
	}
	return errors.New("it is over another image")
}

// bundle is what is read of a sigstore bundle. Entries of a transparency log and hints at keys are not: keys come from the
// trust, and so does their end.
type bundle struct {
	payload   []byte
	signature []byte
}

func parseBundle(data []byte) (bundle, error) {
	var b struct {
		MediaType string `json:"mediaType"`
		Envelope  *struct {
			Payload     string `json:"payload"`
			PayloadType string `json:"payloadType"`
			Signatures  []struct {
				Sig string `json:"sig"`
			} `json:"signatures"`
		} `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return bundle{}, fmt.Errorf("parse bundle: %w", err)
	}
	switch {
	case b.MediaType != bundleType:
		return bundle{}, fmt.Errorf("a bundle of type %.80q: want %q", b.MediaType, bundleType)
	case b.Envelope == nil:
		return bundle{}, errors.New("a bundle without dsseEnvelope")
	case b.Envelope.PayloadType != inTotoType:
		return bundle{}, fmt.Errorf("a bundle over %.80q: want %q", b.Envelope.PayloadType, inTotoType)
	case len(b.Envelope.Signatures) != 1:
		return bundle{}, fmt.Errorf("a bundle with %d signatures: want one", len(b.Envelope.Signatures))
	}
	payload, err := base64.StdEncoding.DecodeString(b.Envelope.Payload)
	if err != nil {
		return bundle{}, fmt.Errorf("decode bundle's payload: %w", err)
	}
	signature, err := base64.StdEncoding.DecodeString(b.Envelope.Signatures[0].Sig)
	if err != nil {
		return bundle{}, fmt.Errorf("decode bundle's signature: %w", err)
	}
	return bundle{payload, signature}, nil
}

// message is what a bundle's signature is over: DSSE's pre-authentication encoding, which nothing else begins like.
func (b bundle) message() []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(inTotoType), inTotoType, len(b.payload)), b.payload...)
}

// decodeSigned reads signed JSON. Anything that another reader might read differently is refused: keys that stand twice, also
// in another case, and what follows the value.
func decodeSigned(data []byte, into any) error {
	if err := unambiguous(data); err != nil {
		return fmt.Errorf("what it signs is no plain JSON: %w", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("what it signs is not as cosign writes it: %w", err)
	}
	return nil
}

const maxJSONDepth = 32

func unambiguous(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := walk(dec, 0); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}

func walk(dec *json.Decoder, depth int) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	if depth == maxJSONDepth {
		return errors.New("nested too deeply")
	}
	seen := map[string]bool{}
	for dec.More() {
		if delim == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string)
			if folded := fold(name); seen[folded] {
				return fmt.Errorf("key %.80q stands twice", name)
			} else {
				seen[folded] = true
			}
		}
		if err := walk(dec, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// fold makes those names equal that encoding/json takes for one: also "ſ" and "s", and the Kelvin sign and "k".
func fold(name string) string { return strings.ToLower(strings.ToUpper(name)) }
