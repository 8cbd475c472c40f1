package verify_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify"
	vt "github.com/holdfast-dev/holdfast/policy/verify/verifytest"
)

func roundTrip(t *testing.T, s verify.State) verify.State {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back verify.State
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

// lab is a work tree that the git program works in, with keys made by ssh-keygen and gpg.
type lab struct {
	t    *testing.T
	home string
	env  []string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	home, err := os.MkdirTemp("", "hf") // gpg-agent's socket must have a short path
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, home: home}
	l.env = append(os.Environ(), "HOME="+home, "GNUPGHOME="+home, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "TZ=Asia/Tokyo",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.com")
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all") // of this home only
		cmd.Env = l.env
		_ = cmd.Run()
		_ = os.RemoveAll(home)
	})
	l.run("git", "init", "-q", "-b", "main")
	return l
}

func (l *lab) path(name string) string { return filepath.Join(l.home, name) }

func (l *lab) run(name string, args ...string) string {
	l.t.Helper()
	return l.feed(nil, name, args...)
}

func (l *lab) feed(in []byte, name string, args ...string) string {
	l.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = l.home, l.env, bytes.NewReader(in)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String())
}

func (l *lab) write(files vt.Files) {
	l.t.Helper()
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(l.path(name)), 0o755); err != nil {
			l.t.Fatal(err)
		}
		if err := os.WriteFile(l.path(name), []byte(content), 0o644); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *lab) commit(message string, args ...string) string {
	l.t.Helper()
	l.run("git", "add", "fleet.cue", "trust")
	l.run("git", append(append([]string{}, args...), "commit", "-q", "-m", message)...)
	return l.run("git", "rev-parse", "HEAD")
}

// Object reads with git cat-file.
func (l *lab) Object(id string) (string, []byte, error) {
	cmd := exec.Command("git", "cat-file", "--batch")
	cmd.Dir, cmd.Env, cmd.Stdin = l.home, l.env, strings.NewReader(id+"\n")
	out, err := cmd.Output()
	if err != nil {
		return "", nil, err
	}
	head, body, _ := bytes.Cut(out, []byte("\n"))
	fields := strings.Fields(string(head))
	if len(fields) != 3 {
		return "", nil, verify.ErrNotFound
	}
	return fields[1], body[:len(body)-1], nil
}

func sshArgs(key string) []string {
	return []string{"-c", "gpg.format=ssh", "-c", "user.signingKey=" + key, "-c", "commit.gpgSign=true"}
}

// TestRealPrograms proves that what git, ssh-keygen and gpg make is believed: commits signed with every type of SSH key that
// needs no hardware and with OpenPGP, and countersignatures made without Holdfast.
func TestRealPrograms(t *testing.T) {
	l := newLab(t)
	types := map[string][]string{"ed25519": {"-t", "ed25519"}, "ecdsa": {"-t", "ecdsa", "-b", "384"}, "rsa": {"-t", "rsa", "-b", "2048"}}
	var signers []trust.Signer
	var principals []string
	for _, name := range []string{"ed25519", "ecdsa", "rsa"} {
		l.run("ssh-keygen", append([]string{"-q", "-N", "", "-f", name, "-C", name + "@desk"}, types[name]...)...)
		pub, err := os.ReadFile(l.path(name + ".pub"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := trust.SignerOf(name, pub)
		if err != nil {
			t.Fatal(err)
		}
		signers, principals = append(signers, s), append(principals, name)
	}
	l.run("gpg", "--batch", "--passphrase", "", "--quick-gen-key", "Greta <greta@example.com>", "ed25519", "sign", "1y")
	l.run("gpg", "--batch", "--passphrase", "", "--quick-gen-key", "Rolf <rolf@example.com>", "rsa2048", "cert", "1y")
	rolf := strings.Split(l.run("gpg", "--with-colons", "--list-keys", "rolf@example.com"), "fpr:::::::::")[1][:40]
	l.run("gpg", "--batch", "--passphrase", "", "--quick-add-key", rolf, "rsa2048", "sign", "6m")
	principals = append(principals, "greta", "rolf")
	policy := trust.Policy{Fleet: vt.Fleet, Roles: map[string]trust.Role{
		trust.RootRole: {Principals: principals, Threshold: 1, Paths: []string{"trust/**"}},
		"ops":          {Principals: principals, Threshold: 1, Paths: []string{"**"}},
	}}
	l.write(vt.Files{
		"fleet.cue":             "package fleet\n",
		"trust/policy.json":     string(policy.JSON()),
		"trust/allowed_signers": string(trust.FormatSigners(signers)),
		"trust/pgp/greta.asc":   l.run("gpg", "--armor", "--export", "greta@example.com") + "\n",
		"trust/pgp/rolf.asc":    l.run("gpg", "--armor", "--export", "rolf@example.com") + "\n",
	})
	s, err := verify.Enrol(l, l.commit("begin"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{}
	for _, name := range []string{"ed25519", "ecdsa", "rsa"} {
		l.write(vt.Files{"fleet.cue": "package fleet\n// " + name + "\n"})
		l.commit("by "+name, sshArgs(l.path(name))...)
		want = append(want, name)
	}
	for _, name := range []string{"greta", "rolf"} {
		l.write(vt.Files{"fleet.cue": "package fleet\n// " + name + "\n"})
		l.commit("by "+name, "-c", "user.signingKey="+name+"@example.com", "-c", "commit.gpgSign=true")
		want = append(want, name)
	}
	l.write(vt.Files{"fleet.cue": "package fleet\n// unsigned\n"})
	tip := l.commit("unsigned")
	l.run("sh", "-e", "-c", documented(t), "sh", tip)

	v, err := verify.Verify(t.Context(), l, verify.Request{State: s, Tip: tip, Notes: l.run("git", "rev-parse", "refs/notes/holdfast")})
	if err != nil || !v.Accepted {
		t.Fatalf("verdict is %s: %s, %v", v.Reason, v.Message, err)
	}
	for i, c := range v.Commits {
		if i < len(want) && c.Signer != want[i] || i == len(want) && strings.Join(c.Countersigners, " ") != "rsa" {
			t.Errorf("commit %d: %+v", i, c)
		}
	}
}

// TestSHA1IsRefused has gpg make what libraries no longer do: an OpenPGP signature over SHA-1.
func TestSHA1IsRefused(t *testing.T) {
	l := newLab(t)
	l.run("gpg", "--batch", "--passphrase", "", "--quick-gen-key", "Rolf <rolf@example.com>", "rsa2048", "sign", "1y")
	policy := vt.DefaultPolicy()
	for name, role := range policy.Roles {
		role.Principals = []string{"rolf", "other"}
		policy.Roles[name] = role
	}
	l.write(vt.Files{
		"fleet.cue":             "package fleet\n",
		"trust/policy.json":     string(policy.JSON()),
		"trust/allowed_signers": "other " + vt.NewKey(t, "other").AuthorizedKey(),
		"trust/pgp/rolf.asc":    l.run("gpg", "--armor", "--export", "rolf@example.com") + "\n",
	})
	s, err := verify.Enrol(l, l.commit("begin"))
	if err != nil {
		t.Fatal(err)
	}
	l.write(vt.Files{"fleet.cue": "package fleet\n// x\n"})
	payload := l.raw(l.commit("by SHA-1"))
	for digest, want := range map[string]string{"SHA256": verify.Accepted, "SHA1": verify.BadSignature} {
		sig := l.feed(payload, "gpg", "--batch", "--digest-algo", digest, "--armor", "--detach-sign")
		head, body, _ := bytes.Cut(payload, []byte("\n\n"))
		signed := bytes.Join([][]byte{head, []byte("\n" + vt.Header("gpgsig", sig) + "\n"), body}, nil)
		tip := l.feed(signed, "git", "hash-object", "-t", "commit", "-w", "--stdin")
		v, err := verify.Verify(t.Context(), l, verify.Request{State: s, Tip: tip})
		if err != nil || v.Reason != want || want != verify.Accepted && !strings.Contains(v.Message, "made with SHA-1") {
			t.Errorf("%s: verdict is %s: %s, %v", digest, v.Reason, v.Message, err)
		}
	}
}

// documented gives the shell commands by which docs/trust.md countersigns without Holdfast.
func documented(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/trust.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "Without Holdfast at hand")
	_, script, ok2 := strings.Cut(rest, "\n\n")
	script, _, ok3 := strings.Cut(script, "\n\n")
	if !ok || !ok2 || !ok3 {
		t.Fatal("docs/trust.md does not say it any more")
	}
	return strings.NewReplacer("REV", `"$1"`, "~/.ssh/id_ed25519", "rsa").Replace(script)
}

func (l *lab) raw(id string) []byte {
	l.t.Helper()
	_, raw, err := l.Object(id)
	if err != nil {
		l.t.Fatal(err)
	}
	return raw
}

// TestSSHKeygenBelievesCountersignatures: what Holdfast makes is checked by ssh-keygen with the fleet's own allowed_signers.
func TestSSHKeygenBelievesCountersignatures(t *testing.T) {
	l := newLab(t)
	r := vt.New(t, vt.InMemory())
	l.write(r.TrustFiles(vt.DefaultPolicy()))
	line, err := verify.Countersign(r.Raw(r.Tip()), vt.Fleet, r.Key("bob"))
	if err != nil {
		t.Fatal(err)
	}
	l.write(vt.Files{"sig": "-----BEGIN SSH SIGNATURE-----\n" + strings.Fields(line)[1] + "\n-----END SSH SIGNATURE-----\n"})
	message := append([]byte("holdfast countersignature 1\nfleet kelp\n\n"), r.Raw(r.Tip())...)
	out := l.feed(message, "ssh-keygen", "-Y", "verify", "-n", "holdfast-countersign", "-I", "bob", "-f", "trust/allowed_signers", "-s", "sig")
	if !strings.HasPrefix(out, `Good "holdfast-countersign" signature for bob`) {
		t.Fatalf("ssh-keygen says %q", out)
	}
}
