package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Policy is trust/policy.json.
type Policy struct {
	// Fleet is the fleet's id. It never changes: countersignatures and enrolments are bound to it.
	Fleet string `json:"fleet"`
	// Roles by name. RootRole is one of them.
	Roles map[string]Role `json:"roles"`
	// Images say which image repositories must carry a signature.
	Images []Image `json:"images,omitempty"`
}

// Role says who may change which paths.
type Role struct {
	// Principals by the names that allowed_signers and pgp/ give them.
	Principals []string `json:"principals"`
	// Threshold is how many of them must sign; at least 1.
	Threshold int `json:"threshold"`
	// Paths are patterns: "fleet.cue", "*.cue", "pools/berlin/**". A path belongs to the role with the most specific one.
	Paths []string `json:"paths"`
}

// Image says what is asked of the images of a repository.
type Image struct {
	// Repository is a repository's name, or the start of one followed by "/**".
	Repository string `json:"repository"`
	// Signed is "required".
	Signed string `json:"signed"`
}

// SignedRequired is the one value of Image.Signed.
const SignedRequired = "required"

var (
	fieldName  = regexp.MustCompile(`^[a-z]+$`)
	fleetID    = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)
	roleName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	principal  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$`)
	repository = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(/\*\*)?$`)
)

// RoleNames gives the roles' names, sorted.
func (p Policy) RoleNames() []string { return slices.Sorted(maps.Keys(p.Roles)) }

// JSON gives the file's content.
func (p Policy) JSON() []byte {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		panic(err) // strings and numbers only
	}
	return append(b, '\n')
}

// ParsePolicy reads policy.json strictly: unknown fields, duplicate keys and anything after the value are refused.
func ParsePolicy(data []byte) (Policy, error) {
	p, err := decodePolicy(data)
	if err != nil {
		return Policy{}, err
	}
	if _, err := p.compile(); err != nil {
		return Policy{}, err
	}
	return p, nil
}

func (t *Trust) readPolicy(files Files) error {
	data, ok := files[PolicyFile]
	if !ok {
		return errorIn(PolicyFile, 0, "missing: it names the fleet and its roles")
	}
	p, err := decodePolicy(data)
	if err != nil {
		return err
	}
	t.Policy = p
	t.patterns, err = p.compile()
	return err
}

func decodePolicy(data []byte) (Policy, error) {
	var p Policy
	if len(data) > MaxFileBytes {
		return p, errorIn(PolicyFile, 0, "%d bytes, over the bound of %d", len(data), MaxFileBytes)
	}
	if err := uniqueKeys(data); err != nil {
		return p, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return p, errorIn(PolicyFile, lineAt(data, offsetOf(err, dec, data)), "%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return p, nil
}

// uniqueKeys refuses what encoding/json lets pass: an object with one key twice, keys that differ from a field's
// name by case only, and anything after the first value.
func uniqueKeys(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	var walk func(depth int) error
	fail := func(format string, args ...any) error {
		return errorIn(PolicyFile, lineAt(data, dec.InputOffset()), format, args...)
	}
	walk = func(depth int) error {
		tok, err := dec.Token()
		if err != nil {
			return errorIn(PolicyFile, lineAt(data, offsetOf(err, dec, data)), "not JSON: %v", err)
		}
		delim, ok := tok.(json.Delim)
		if !ok {
			return nil
		}
		if depth > 8 {
			return fail("nested too deeply")
		}
		seen := map[string]bool{}
		for dec.More() {
			if delim == '{' {
				key, err := dec.Token()
				if err != nil {
					return errorIn(PolicyFile, lineAt(data, offsetOf(err, dec, data)), "not JSON: %v", err)
				}
				name, _ := key.(string)
				if seen[name] {
					return fail("key %q is given twice", name)
				}
				seen[name] = true
				if depth != 1 && !fieldName.MatchString(name) { // encoding/json would fold it; at depth 1 stand roles
					return fail("unknown field %q", name)
				}
			}
			if err := walk(depth + 1); err != nil {
				return err
			}
		}
		if _, err := dec.Token(); err != nil {
			return errorIn(PolicyFile, lineAt(data, offsetOf(err, dec, data)), "not JSON: %v", err)
		}
		return nil
	}
	if err := walk(0); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fail("something follows the policy: a file holds one JSON object")
	}
	return nil
}

func offsetOf(err error, dec *json.Decoder, data []byte) int64 {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return syntax.Offset
	case errors.As(err, &typ):
		return typ.Offset
	}
	if _, field, ok := strings.Cut(err.Error(), "unknown field "); ok { // the error of encoding/json says no place
		if i := bytes.Index(data, []byte(field)); i >= 0 {
			return int64(i)
		}
	}
	return dec.InputOffset()
}

func lineAt(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(max(offset, 0), int64(len(data)))], []byte("\n"))
}

// owned is a role's pattern.
type owned struct {
	role    string
	text    string
	pattern pattern
}

// compile checks everything that policy.json alone decides, and gives the patterns with the roles they belong to.
func (p Policy) compile() ([]owned, error) {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, errorIn(PolicyFile, 0, format, args...)) }
	if !fleetID.MatchString(p.Fleet) {
		fail("fleet %q: a fleet's id is 1 to 63 of a-z, 0-9, '-' and '.', and begins and ends with a letter or a digit", p.Fleet)
	}
	root, ok := p.Roles[RootRole]
	if !ok {
		fail("no role %q: it owns %s/", RootRole, Folder)
	} else if !slices.Contains(root.Paths, Folder+"/**") {
		fail("role %q: paths must name \"%s/**\"", RootRole, Folder)
	}
	var all []owned
	for _, name := range p.RoleNames() {
		role := p.Roles[name]
		errs = append(errs, role.check(name)...)
		for _, text := range role.Paths {
			pat, err := parsePattern(text)
			if err != nil {
				fail("role %q: path %q: %v", name, text, err)
				continue
			}
			if name != RootRole && pat.segments[0].literal() && pat.segments[0].prefix == Folder {
				fail("role %q: path %q: %s/ belongs to role %q alone", name, text, Folder, RootRole)
			}
			for _, o := range all {
				if o.pattern.ties(pat) && (o.role != name || o.text == text) {
					fail("role %q: path %q is as specific as %q of role %q, so a path could belong to both", name, text, o.text, o.role)
				}
			}
			all = append(all, owned{role: name, text: text, pattern: pat})
		}
	}
	for i, img := range p.Images {
		if !repository.MatchString(img.Repository) {
			fail("images[%d]: repository %q: give a repository's name, or the start of one followed by \"/**\"", i, img.Repository)
		}
		if img.Signed != SignedRequired {
			fail("images[%d]: signed is %q: the one value is %q", i, img.Signed, SignedRequired)
		}
	}
	return all, errors.Join(errs...)
}

func (r Role) check(name string) []error {
	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, errorIn(PolicyFile, 0, "role %q: "+format, append([]any{name}, args...)...))
	}
	if !roleName.MatchString(name) {
		fail("a role's name is 1 to 63 of a-z, 0-9 and '-', and begins and ends with a letter or a digit")
	}
	if len(r.Principals) == 0 {
		fail("no principals")
	}
	seen := map[string]bool{}
	for _, p := range r.Principals {
		if err := checkPrincipal(p); err != nil {
			fail("%v", err)
		}
		if seen[p] {
			fail("principal %q is named twice", p)
		}
		seen[p] = true
	}
	if r.Threshold < 1 {
		fail("threshold is %d: at least 1", r.Threshold)
	} else if len(r.Principals) > 0 && r.Threshold > len(seen) {
		fail("threshold is %d, but there are only %d principals", r.Threshold, len(seen))
	}
	if len(r.Paths) == 0 {
		fail("no paths")
	}
	return errs
}

func checkPrincipal(name string) error {
	if !principal.MatchString(name) {
		return fmt.Errorf("principal %q: a principal's name is up to 128 letters, digits and . _ @ + -, and begins with a letter or a digit", name)
	}
	return nil
}
