package trust

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Namespaces of SSH signatures.
const (
	// NamespaceGit is git's own, of signed commits.
	NamespaceGit = "git"
	// NamespaceCountersign is of countersignatures.
	NamespaceCountersign = "holdfast-countersign"
	// NamespaceReanchor is of re-anchor records.
	NamespaceReanchor = "holdfast-re-anchor"
)

// Signer is one line of allowed_signers.
type Signer struct {
	Principal string
	// Namespaces are patterns, as OpenSSH has them; none means: every namespace.
	Namespaces []string
	// ValidAfter and ValidBefore bound when the key is valid, both included; zero means: no bound. They are UTC.
	ValidAfter, ValidBefore time.Time
	Key                     ssh.PublicKey
	Comment                 string
	// Line is the line's number; 0 if it was not read from a file.
	Line int
}

// SignerOf makes a Signer without bounds of a key in the form of OpenSSH's .pub files.
func SignerOf(principal string, authorizedKey []byte) (Signer, error) {
	if err := checkPrincipal(principal); err != nil {
		return Signer{}, err
	}
	line := strings.TrimSpace(string(authorizedKey))
	key, comment, err := parseKey(line)
	if err != nil {
		return Signer{}, err
	}
	return Signer{Principal: principal, Key: key, Comment: comment}, nil
}

// Format gives the line for allowed_signers, without a newline.
func (s Signer) Format() string {
	var opts []string
	if len(s.Namespaces) > 0 {
		opts = append(opts, fmt.Sprintf("namespaces=%q", strings.Join(s.Namespaces, ",")))
	}
	if !s.ValidAfter.IsZero() {
		opts = append(opts, fmt.Sprintf("valid-after=%q", s.ValidAfter.UTC().Format(timeLayout)+"Z"))
	}
	if !s.ValidBefore.IsZero() {
		opts = append(opts, fmt.Sprintf("valid-before=%q", s.ValidBefore.UTC().Format(timeLayout)+"Z"))
	}
	fields := []string{s.Principal}
	if len(opts) > 0 {
		fields = append(fields, strings.Join(opts, ","))
	}
	fields = append(fields, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.Key))))
	if s.Comment != "" {
		fields = append(fields, s.Comment)
	}
	return strings.Join(fields, " ")
}

// FormatSigners gives the content of allowed_signers.
func FormatSigners(signers []Signer) []byte {
	var b bytes.Buffer
	for _, s := range signers {
		b.WriteString(s.Format() + "\n")
	}
	return b.Bytes()
}

const timeLayout = "20060102150405"

// ParseSigners reads allowed_signers: OpenSSH's format (ssh-keygen(1), ALLOWED SIGNERS), with times read as UTC whether
// or not they end in Z, so that a verdict is the same in every time zone. What would make one key several principals is
// refused: lists and patterns of principals, one key under two names, and certificate authorities.
func ParseSigners(data []byte) ([]Signer, error) {
	if len(data) > MaxFileBytes {
		return nil, errorIn(AllowedSignersFile, 0, "%d bytes, over the bound of %d", len(data), MaxFileBytes)
	}
	var signers []Signer
	var errs []error
	holder := map[string]Signer{}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.Trim(line, " \t\n")
		if line == "" || line[0] == '#' {
			continue
		}
		s, err := parseSigner(line)
		if err == nil {
			s.Line = n
			if first, ok := holder[string(s.Key.Marshal())]; ok && first.Principal != s.Principal {
				err = fmt.Errorf("the key of %q is also that of %q (line %d): a key belongs to one principal", s.Principal, first.Principal, first.Line)
			}
		}
		if err != nil {
			errs = append(errs, errorIn(AllowedSignersFile, n, "%v", err))
			continue
		}
		holder[string(s.Key.Marshal())] = s
		signers = append(signers, s)
	}
	return signers, errors.Join(errs...)
}

func (t *Trust) readSigners(files Files) error {
	data, ok := files[AllowedSignersFile]
	if !ok {
		return nil // all principals may use OpenPGP
	}
	var err error
	t.Signers, err = ParseSigners(data)
	t.sshKeys = make(map[string][]int, len(t.Signers))
	for i, s := range t.Signers {
		k := string(s.Key.Marshal())
		t.sshKeys[k] = append(t.sshKeys[k], i)
	}
	return err
}

func parseSigner(line string) (Signer, error) {
	for _, c := range []byte(line) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return Signer{}, fmt.Errorf("control character %#x", c)
		}
	}
	name, rest, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
	if err := checkPrincipal(name); err != nil {
		return Signer{}, fmt.Errorf("%w; one principal a line, with no list and no pattern", err)
	}
	s := Signer{Principal: name}
	rest = strings.TrimLeft(rest, " ")
	if first, _, _ := strings.Cut(rest, " "); !keyTypes[first] && !refusedTypes(first) {
		var err error
		if rest, err = s.parseOptions(rest); err != nil {
			return Signer{}, err
		}
	}
	var err error
	s.Key, s.Comment, err = parseKey(rest)
	return s, err
}

// parseOptions reads the comma-separated options in front of the key and gives what follows them.
func (s *Signer) parseOptions(rest string) (string, error) {
	seen := map[string]bool{}
	for {
		end := strings.IndexAny(rest, "=, ")
		if end < 0 {
			return "", errors.New("no key: a line is \"principal [options] keytype base64-key [comment]\"")
		}
		name := strings.ToLower(rest[:end])
		if seen[name] {
			return "", fmt.Errorf("option %q is given twice", name)
		}
		seen[name] = true
		value := ""
		if rest[end] == '=' {
			var err error
			if value, rest, err = dequote(rest[end+1:]); err != nil {
				return "", fmt.Errorf("option %q: %w", name, err)
			}
		} else {
			rest = rest[end:]
		}
		if err := s.setOption(name, value); err != nil {
			return "", err
		}
		if rest == "" {
			return "", errors.New("no key after the options")
		}
		switch rest[0] {
		case ' ':
			if !s.ValidAfter.IsZero() && !s.ValidBefore.IsZero() && !s.ValidBefore.After(s.ValidAfter) {
				return "", errors.New("valid-before is not after valid-after")
			}
			return strings.TrimLeft(rest, " "), nil
		case ',':
			rest = rest[1:]
		default:
			return "", fmt.Errorf("option %q: unexpected %q after it", name, rest[:1])
		}
	}
}

// dequote reads a quoted value and gives it with what follows.
func dequote(in string) (value, rest string, err error) {
	if in == "" || in[0] != '"' {
		return "", "", errors.New("the value must be in double quotes")
	}
	var b strings.Builder
	for i := 1; i < len(in); i++ {
		switch {
		case in[i] == '\\' && i+1 < len(in) && in[i+1] == '"':
			i++
			b.WriteByte('"')
		case in[i] == '"':
			return b.String(), in[i+1:], nil
		default:
			b.WriteByte(in[i])
		}
	}
	return "", "", errors.New("the closing quote is missing")
}

func (s *Signer) setOption(name, value string) error {
	var err error
	switch name {
	case "namespaces":
		s.Namespaces = strings.Split(value, ",")
		for _, n := range s.Namespaces {
			if n == "" || n == "!" {
				return fmt.Errorf("option %q: empty namespace", name)
			}
		}
	case "valid-after":
		s.ValidAfter, err = parseTime(value)
	case "valid-before":
		s.ValidBefore, err = parseTime(value)
	case "cert-authority":
		return errors.New("certificate authorities are not supported: name each key")
	default:
		return fmt.Errorf("unknown option or key type %q", name)
	}
	if err != nil {
		return fmt.Errorf("option %q: %w", name, err)
	}
	return nil
}

// parseTime reads YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with or without a Z, as UTC.
func parseTime(text string) (time.Time, error) {
	digits := strings.TrimSuffix(strings.TrimSuffix(text, "Z"), "z")
	switch len(digits) {
	case 8, 12, 14:
		if t, err := time.Parse(timeLayout[:len(digits)], digits); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z]", text)
}
