package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
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

// Names' lengths are bounded beside their expressions: a bound in an expression is compiled to that many copies, which would
// cost every child of the agent a millisecond at its start.
var (
	fleetID   = form{63, regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)}
	roleName  = form{63, regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)}
	principal = form{128, regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]*$`)}
)

// form is what a name looks like.
type form struct {
	longest int
	letters *regexp.Regexp
}

func (f form) fits(name string) bool { return len(name) <= f.longest && f.letters.MatchString(name) }

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
	_, err = p.compile()
	_, imagesErr := p.compileImages()
	if err := errors.Join(err, imagesErr); err != nil {
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
	var imagesErr error
	t.images, imagesErr = p.compileImages()
	return errors.Join(err, imagesErr)
}

// owned is a role's pattern.
type owned struct {
	role    string
	text    string
	pattern pattern
}

// compile checks everything that policy.json alone decides of roles, and gives the patterns with the roles they belong to.
func (p Policy) compile() ([]owned, error) {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, errorIn(PolicyFile, 0, format, args...)) }
	if !fleetID.fits(p.Fleet) {
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
	return all, errors.Join(errs...)
}

func (r Role) check(name string) []error {
	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, errorIn(PolicyFile, 0, "role %q: "+format, append([]any{name}, args...)...))
	}
	if !roleName.fits(name) {
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
	if !principal.fits(name) {
		return fmt.Errorf("principal %q: a principal's name is up to 128 letters, digits and . _ @ + -, and begins with a letter or a digit", name)
	}
	return nil
}
