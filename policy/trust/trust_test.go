package trust_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

func key(t testing.TB, public any) ssh.PublicKey {
	t.Helper()
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ed(t testing.TB) ssh.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key(t, public)
}

func rsaKey(t testing.TB, bits int) ssh.PublicKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key(t, &k.PublicKey)
}

func text(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }

const goodPolicy = `{
  "fleet": "kelp",
  "roles": {
    "root": {"principals": ["alice", "bob"], "threshold": 1, "paths": ["trust/**"]},
    "ops": {"principals": ["alice"], "threshold": 1, "paths": ["**"]}
  },
  "images": [{"repository": "registry.example.com/app/**", "signed": "required"}]
}
`

func files(t testing.TB) trust.Files {
	return trust.Files{
		"policy.json":       []byte(goodPolicy),
		"allowed_signers":   []byte("# people\n\nalice " + text(ed(t)) + " alice@desk\nbob " + text(ed(t)) + "\n"),
		"cosign/build.pub":  []byte(buildKey),
		"trusted_root.json": []byte("{}"),
		"README.md":         []byte("hello"),
	}
}

func TestParse(t *testing.T) {
	tr, err := trust.Parse(files(t))
	if err != nil {
		t.Fatal(err)
	}
	if tr.Policy.Fleet != "kelp" || len(tr.Signers) != 2 || tr.Signers[0].Line != 3 || tr.Signers[0].Comment != "alice@desk" || tr.Cosign["build"].Fingerprint() != buildFingerprint || string(tr.TrustedRoot) != "{}" {
		t.Fatalf("got %+v", tr)
	}
	if err := tr.CheckRecovery(); err != nil {
		t.Fatal(err)
	}
}

func TestCheckRecovery(t *testing.T) {
	f := files(t)
	f["policy.json"] = []byte(strings.Replace(goodPolicy, `"threshold": 1`, `"threshold": 2`, 1))
	tr, err := trust.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	want := `trust/policy.json: role "root" has 2 principals with threshold 2, and needs at least 3: losing one key would lock everyone out; name another principal or lower the threshold`
	if err := tr.CheckRecovery(); err == nil || err.Error() != want {
		t.Fatalf("got %v", err)
	}
}

func TestLongestNames(t *testing.T) {
	f := files(t)
	fleet := strings.Repeat("k", 63)
	long := strings.Replace(goodPolicy, `"kelp"`, `"`+fleet+`"`, 1)
	f["policy.json"] = []byte(strings.Replace(long, `"ops"`, `"`+strings.Repeat("o", 63)+`"`, 1))
	tr, err := trust.Parse(f)
	if err != nil || tr.Policy.Fleet != fleet {
		t.Fatalf("got %v, %v", tr, err)
	}
}

func TestParseRefuses(t *testing.T) {
	policy := func(old, new string) func(trust.Files) {
		return func(f trust.Files) {
			if !strings.Contains(goodPolicy, old) {
				panic(old)
			}
			f["policy.json"] = []byte(strings.Replace(goodPolicy, old, new, 1))
		}
	}
	for name, c := range map[string]struct {
		change func(trust.Files)
		want   string
	}{
		"no policy":          {func(f trust.Files) { delete(f, "policy.json") }, "trust/policy.json: missing"},
		"an unknown file":    {func(f trust.Files) { f["allowed-signers"] = nil }, "trust/allowed-signers: no such file belongs here"},
		"a binary key":       {func(f trust.Files) { f["pgp/alice.gpg"] = nil }, "trust/pgp/alice.gpg: no such file belongs here"},
		"a deep key":         {func(f trust.Files) { f["pgp/x/alice.asc"] = nil }, "trust/pgp/x/alice.asc: no such file belongs here"},
		"a broken key":       {func(f trust.Files) { f["pgp/alice.asc"] = []byte("x") }, "trust/pgp/alice.asc: not an armored OpenPGP public key"},
		"an odd principal":   {func(f trust.Files) { f["pgp/al ice.asc"] = nil }, `trust/pgp/al ice.asc: principal "al ice"`},
		"a principal's key":  {func(f trust.Files) { f["allowed_signers"] = []byte("alice " + text(ed(t)) + "\n") }, `trust/policy.json: role "root": principal "bob" holds no key`},
		"a huge file":        {func(f trust.Files) { f["README.md"] = make([]byte, trust.MaxFileBytes+1) }, "trust/README.md: 1048577 bytes"},
		"huge in all":        {func(f trust.Files) { f["a"], f["b"], f["c"], f["d"], f["e"] = mb(), mb(), mb(), mb(), mb() }, "trust: 52"},
		"unknown field":      {policy(`"fleet"`, `"flet"`), `trust/policy.json:2: unknown field "flet"`},
		"unknown role field": {policy(`"threshold"`, `"treshold"`), `unknown field "treshold"`},
		"another case":       {policy(`"fleet"`, `"Fleet"`), `unknown field "Fleet"`},
		"a folded letter":    {policy(`"roles"`, `"roleſ"`), `unknown field "roleſ"`},
		"a key twice":        {policy(`"fleet": "kelp",`, `"fleet": "kelp", "fleet": "dulse",`), `trust/policy.json:2: key "fleet" is given twice`},
		"a role twice":       {policy(`"ops"`, `"root"`), `trust/policy.json:5: key "root" is given twice`},
		"trailing data":      {func(f trust.Files) { f["policy.json"] = []byte(goodPolicy + "{}") }, "something follows the policy"},
		"trailing junk":      {func(f trust.Files) { f["policy.json"] = []byte(goodPolicy + "x") }, "something follows the policy"},
		"not JSON":           {policy(`"fleet"`, `fleet`), "trust/policy.json:2: not JSON"},
		"cut off":            {func(f trust.Files) { f["policy.json"] = []byte(goodPolicy[:100]) }, "not JSON"},
		"null":               {func(f trust.Files) { f["policy.json"] = []byte("null") }, `fleet ""`},
		"a wrong type":       {policy(`"threshold": 1`, `"threshold": "1"`), "trust/policy.json:4: cannot unmarshal string"},
		"deep":               {func(f trust.Files) { f["policy.json"] = []byte(strings.Repeat("[", 100000)) }, "nested too deeply"},
		"no fleet":           {policy(`"kelp"`, `""`), `fleet ""`},
		"an odd fleet":       {policy(`"kelp"`, `"Kelp\n"`), "a fleet's id is"},
		"a long fleet":       {policy(`"kelp"`, `"`+strings.Repeat("k", 64)+`"`), "a fleet's id is"},
		"a long role":        {policy(`"ops"`, `"`+strings.Repeat("o", 64)+`"`), "a role's name is"},
		"a long principal":   {policy(`["alice"]`, `["`+strings.Repeat("a", 129)+`"]`), "a principal's name is"},
		"no root":            {policy(`"root"`, `"rot"`), `no role "root"`},
		"root without trust": {policy(`"trust/**"`, `"fleet.cue"`), `role "root": paths must name "trust/**"`},
		"trust of others":    {policy(`["**"]`, `["**", "trust/cosign/**"]`), `trust/ belongs to role "root" alone`},
		"no principals":      {policy(`["alice"]`, `[]`), `role "ops": no principals`},
		"one twice":          {policy(`["alice"]`, `["alice", "alice"]`), `role "ops": principal "alice" is named twice`},
		"a pattern":          {policy(`["alice"]`, `["*"]`), `role "ops": principal "*"`},
		"threshold 0":        {policy(`"threshold": 1`, `"threshold": 0`), "threshold is 0: at least 1"},
		"threshold too high": {policy(`"threshold": 1`, `"threshold": 3`), "threshold is 3, but there are only 2 principals"},
		"no paths":           {policy(`["**"]`, `[]`), `role "ops": no paths`},
		"an odd role":        {policy(`"ops"`, `"Ops "`), `role "Ops "`},
		"a path of ..":       {policy(`["**"]`, `["../**"]`), `segment ".."`},
		"an absolute path":   {policy(`["**"]`, `["/a"]`), `segment ""`},
		"** in the middle":   {policy(`["**"]`, `["a/**/b"]`), `"**" stands at the end only`},
		"two stars":          {policy(`["**"]`, `["a*b*"]`), `one "*" in a segment`},
		"another wildcard":   {policy(`["**"]`, `["a?"]`), `"*" is the only wildcard`},
		"a tie":              {policy(`"images"`, `"x": 1, "images"`), "unknown field"},
		"an image's word":    {policy(`"required"`, `"yes"`), `images[0]: signed is "yes"`},
		"an image's name":    {policy(`registry.example.com/app/**`, `https://x`), `images[0]: repository "https://x"`},
	} {
		t.Run(name, func(t *testing.T) {
			f := files(t)
			c.change(f)
			_, err := trust.Parse(f)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
}

func mb() []byte { return make([]byte, 1<<20) }

func TestErrorsNameFileAndLine(t *testing.T) {
	f := files(t)
	f["allowed_signers"] = append(f["allowed_signers"], "carol ssh-dss AAAA\n"...)
	_, err := trust.Parse(f)
	var e *trust.Error
	if !errors.As(err, &e) || e.File != "trust/allowed_signers" || e.Line != 5 {
		t.Fatalf("got %v", err)
	}
}

func TestRoleOf(t *testing.T) {
	roles := func(paths map[string][]string) *trust.Trust {
		p := trust.Policy{Fleet: "kelp", Roles: map[string]trust.Role{}}
		for name, patterns := range paths {
			p.Roles[name] = trust.Role{Principals: []string{"alice", "bob"}, Threshold: 1, Paths: patterns}
		}
		f := files(t)
		f["policy.json"] = p.JSON()
		tr, err := trust.Parse(f)
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	tr := roles(map[string][]string{
		"root":   {"trust/**"},
		"rest":   {"**"},
		"cue":    {"*.cue", "fleet-*.cue"},
		"fleet":  {"fleet.cue"},
		"pools":  {"pools/**"},
		"berlin": {"pools/berlin/**"},
		"b":      {"pools/b*/**"},
		"secret": {"pools/*/secrets.cue"},
	})
	for path, want := range map[string]string{
		"trust/policy.json":        "root",
		"trust/pgp/alice.asc":      "root",
		"trust":                    "rest",
		"trusted":                  "rest",
		"README.md":                "rest",
		"a/b/c/d":                  "rest",
		"relays.cue":               "cue",
		"fleet-eu.cue":             "cue",
		"fleet.cue":                "fleet",
		"sub/fleet.cue":            "rest",
		"pools/rome":               "pools",
		"pools/rome/pool.cue":      "pools",
		"pools":                    "rest",
		"pools/berlin/pool.cue":    "berlin",
		"pools/berlin/secrets.cue": "berlin",
		"pools/berlin":             "pools",
		"pools/bonn/pool.cue":      "b",
		"pools/bonn/secrets.cue":   "b",
		"pools/rome/secrets.cue":   "secret",
		"pools/rome/a/secrets.cue": "pools",
		"pools/rome/x-secrets.cue": "pools",
	} {
		if got, ok := tr.RoleOf(path); !ok || got != want {
			t.Errorf("%s belongs to %q, want %q", path, got, want)
		}
	}
	if got, ok := roles(map[string][]string{"root": {"trust/**"}}).RoleOf("fleet.cue"); ok {
		t.Errorf("fleet.cue belongs to %q, want nobody", got)
	}
}

// TestTies: two patterns that could match one path equally well are refused, others are not.
func TestTies(t *testing.T) {
	for _, c := range []struct {
		a, b string
		tie  bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "*", false},
		{"a/**", "a/**", true},
		{"a/**", "a/*", false},
		{"a/**", "a/*/**", false},
		{"*", "*", true},
		{"a*", "*b", true},
		{"a*", "b*", false},
		{"*a", "*b", false},
		{"a*", "ab*", false},
		{"ab*c", "a*bc", true},
		{"*/x", "*/*", false},
		{"a*/x", "*b/x", true},
		{"a*/x", "*b/y", false},
		{"pools/*/x.cue", "pools/berlin/**", false},
	} {
		p := trust.Policy{Fleet: "kelp", Roles: map[string]trust.Role{
			"root": {Principals: []string{"alice"}, Threshold: 1, Paths: []string{"trust/**"}},
			"one":  {Principals: []string{"alice"}, Threshold: 1, Paths: []string{c.a}},
			"two":  {Principals: []string{"alice"}, Threshold: 1, Paths: []string{c.b}},
		}}
		_, err := trust.ParsePolicy(p.JSON())
		if tie := err != nil; tie != c.tie {
			t.Errorf("%q and %q: %v", c.a, c.b, err)
		} else if tie && !strings.Contains(err.Error(), "so a path could belong to both") {
			t.Errorf("%q and %q: %v", c.a, c.b, err)
		}
	}
}

func TestSigners(t *testing.T) {
	k := text(ed(t))
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for line, want := range map[string]trust.Signer{
		"alice " + k:                                         {Principal: "alice"},
		"  alice\t" + k + " a comment":                       {Principal: "alice", Comment: "a comment"},
		"a.b+c@example.com " + k:                             {Principal: "a.b+c@example.com"},
		`alice namespaces="git,file" ` + k:                   {Principal: "alice", Namespaces: []string{"git", "file"}},
		`alice NAMESPACES="git" ` + k:                        {Principal: "alice", Namespaces: []string{"git"}},
		`alice valid-after="20260102" ` + k:                  {Principal: "alice", ValidAfter: at("2026-01-02T00:00:00Z")},
		`alice valid-after="20260102Z" ` + k:                 {Principal: "alice", ValidAfter: at("2026-01-02T00:00:00Z")},
		`alice valid-before="202601021504" ` + k:             {Principal: "alice", ValidBefore: at("2026-01-02T15:04:00Z")},
		`alice valid-before="20260102150405Z" ` + k:          {Principal: "alice", ValidBefore: at("2026-01-02T15:04:05Z")},
		`alice namespaces="git",valid-after="20260102" ` + k: {Principal: "alice", Namespaces: []string{"git"}, ValidAfter: at("2026-01-02T00:00:00Z")},
	} {
		got, err := trust.ParseSigners([]byte(line + "\n"))
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %v", line, err)
			continue
		}
		g := got[0]
		if g.Principal != want.Principal || g.Comment != want.Comment || !slices.Equal(g.Namespaces, want.Namespaces) || !g.ValidAfter.Equal(want.ValidAfter) || !g.ValidBefore.Equal(want.ValidBefore) || text(g.Key) != k {
			t.Errorf("%s: got %+v", line, g)
		}
		again, err := trust.ParseSigners([]byte(g.Format()))
		if err != nil || again[0].Format() != g.Format() || g.ValidAfter.Location() != time.UTC {
			t.Errorf("%s: formatted as %q: %v", line, g.Format(), err)
		}
	}
}

func TestSignersRefused(t *testing.T) {
	k := ed(t)
	short := rsaKey(t, 1024)
	cert := &ssh.Certificate{Key: k, SignatureKey: k, Signature: &ssh.Signature{Format: "ssh-ed25519"}}
	wrong := "ssh-rsa " + base64.StdEncoding.EncodeToString(k.Marshal())
	for line, want := range map[string]string{
		"alice":                                          "no key",
		"alice,bob " + text(k):                           `principal "alice,bob"`,
		"*@example.com " + text(k):                       `principal "*@example.com"`,
		`"alice" ` + text(k):                             "principal",
		"alice cert-authority " + text(k):                "certificate authorities are not supported",
		"alice ssh-dss AAAA":                             `key type "ssh-dss" is refused`,
		"alice " + text(cert):                            `key type "ssh-ed25519-cert-v01@openssh.com" is refused`,
		"alice " + text(short):                           "an RSA key of 1024 bits: at least 2048",
		"alice " + wrong:                                 `the key is of type "ssh-ed25519", not "ssh-rsa"`,
		"alice ssh-ed25519 AAAA":                         "the key cannot be read",
		"alice ssh-ed25519 !":                            "the key is not base64",
		"alice ssh-ed25519":                              "no key",
		"alice no-touch " + text(k):                      `unknown option or key type "no-touch"`,
		"alice namespaces=git " + text(k):                "the value must be in double quotes",
		`alice namespaces="git ` + text(k):               "the closing quote is missing",
		`alice namespaces="" ` + text(k):                 "empty namespace",
		`alice namespaces="a",namespaces="b" ` + text(k): `option "namespaces" is given twice`,
		`alice valid-after="tomorrow" ` + text(k):        "is not YYYYMMDD",
		`alice valid-after="20261301" ` + text(k):        "is not YYYYMMDD",
		`alice valid-after="20260102",valid-before="20260102" ` + text(k): "valid-before is not after valid-after",
		`alice namespaces="git"` + text(k):                                "unexpected",
		`alice namespaces="git"`:                                          "no key after the options",
		"alice " + text(k) + "\r":                                         "control character 0xd",
		"alice " + text(k) + "\nbob " + text(k):                           `the key of "bob" is also that of "alice" (line 1)`,
	} {
		_, err := trust.ParseSigners([]byte(line + "\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestKeyTypes(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edKey := ed(t).(ssh.CryptoPublicKey).CryptoPublicKey().(ed25519.PublicKey)
	skEd, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Name, Key, App string
	}{"sk-ssh-ed25519@openssh.com", string(edKey), "ssh:"}))
	if err != nil {
		t.Fatal(err)
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	skEC, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Name, Curve, Key, App string
	}{"sk-ecdsa-sha2-nistp256@openssh.com", "nistp256", string(point), "ssh:"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []ssh.PublicKey{ed(t), key(t, &k.PublicKey), rsaKey(t, 2048), skEd, skEC} {
		if _, err := trust.SignerOf("alice", []byte(text(k)+" comment\n")); err != nil {
			t.Errorf("%s: %v", k.Type(), err)
		}
	}
}

func TestSSHPrincipal(t *testing.T) {
	alice, two, unknown := ed(t), ed(t), ed(t)
	f := files(t)
	f["allowed_signers"] = []byte(strings.Join([]string{
		`alice namespaces="git,!holdfast-*" ` + text(alice),
		`alice namespaces="holdfast-*",valid-before="20260601" ` + text(alice),
		`bob namespaces="g?t" ` + text(two),
	}, "\n"))
	tr, err := trust.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	june := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		key       ssh.PublicKey
		namespace string
		at        time.Time
		who       string
		err       error
	}{
		{alice, "git", june.AddDate(9, 0, 0), "alice", nil},
		{alice, "holdfast-countersign", june, "alice", nil},
		{alice, "holdfast-countersign", june.Add(time.Second), "alice", trust.ErrKeyNotValid},
		{alice, "file", june, "alice", trust.ErrKeyNotValid},
		{two, "git", june, "bob", nil},
		{two, "holdfast-countersign", june, "bob", trust.ErrKeyNotValid},
		{unknown, "git", june, "", trust.ErrUnknownKey},
	} {
		who, err := tr.SSHPrincipal(c.key, c.namespace, c.at)
		if who != c.who || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s at %s: %q, %v", c.namespace, c.at, who, err)
		}
	}
}

func TestReadFS(t *testing.T) {
	fsys := fstest.MapFS{}
	want := files(t)
	for name, data := range want {
		fsys[name] = &fstest.MapFile{Data: data}
	}
	got, err := trust.ReadFS(fsys)
	if err != nil || !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
		t.Fatalf("got %v, %v", got, err)
	}
	fsys["pgp/alice.asc"] = &fstest.MapFile{Mode: 0o777 | 1<<27, Data: []byte("/etc/passwd")} // a symlink
	if _, err := trust.ReadFS(fsys); err == nil || !strings.Contains(err.Error(), "trust/pgp/alice.asc: not a regular file") {
		t.Fatalf("a symlink: %v", err)
	}
}
