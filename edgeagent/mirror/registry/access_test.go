package registry_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/registry"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// private is a site with a public image, "app", and a private one, "vault", whose secret is alice's "s3cret".
func private() (*site, *fake) {
	s, f := public()
	f.repos["vault"] = image("s3cret", "gold")
	return s, f
}

// vault gives all the ways to ask for the private image.
func vault(f *fake) []string {
	return []string{"vault/manifests/v1" + ns, "vault/manifests/" + f.repos["vault"].v1().String() + ns, "vault/blobs/" + digestOf("gold").String() + ns}
}

// answers checks what each way of asking gives.
func answers(t *testing.T, h http.Handler, paths []string, want int, headers ...string) {
	t.Helper()
	for _, path := range paths {
		for _, method := range []string{"GET", "HEAD"} {
			w := do(t, h, method, path, headers...)
			if w.Code != want {
				t.Errorf("%s %s: %d %s, want %d", method, path, w.Code, w.Body, want)
			}
			if challenge := w.Header().Get("WWW-Authenticate"); (challenge != "") != (want == 401) || want == 401 && challenge != `Basic realm="mirror of reg.example"` {
				t.Errorf("%s %s: challenge %q", method, path, challenge)
			}
			if want != 200 && strings.Contains(w.Body.String(), "gold") {
				t.Errorf("%s %s leaks %s", method, path, w.Body)
			}
		}
	}
}

func TestPrivate(t *testing.T) {
	s, f := private()
	h := s.handler(t)
	right, wrong := as("alice", "s3cret"), as("alice", "guess")
	answers(t, h, vault(f), 401)
	answers(t, h, vault(f), 401, wrong...)
	answers(t, h, vault(f), 401, "Authorization", "Bearer token")
	answers(t, h, vault(f), 401, "Authorization", "Basic !!!")
	answers(t, h, vault(f), 401, "Authorization", "Basic Og==") // ":"
	answers(t, h, vault(f), 401, append(right, wrong...)...)
	if len(s.store) != 0 {
		t.Error("something was fetched for nobody")
	}
	answers(t, h, vault(f), 200, right...)
	answers(t, h, vault(f), 401)
	answers(t, h, vault(f), 401, wrong...)
	answers(t, h, []string{"app/manifests/v1" + ns}, 200, wrong...) // what is public needs nothing

	// Cut off, and started again: what was decided is kept, and nothing else opens it.
	f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
	h = s.handler(t)
	answers(t, h, vault(f), 200, right...)
	answers(t, h, vault(f), 401)
	answers(t, h, vault(f), 401, wrong...)
	answers(t, h, vault(f), 401, as("bob", "s3cret")...)
	answers(t, h, []string{"app/manifests/v1" + ns}, 200)
	answers(t, h, []string{"never/manifests/v1" + ns}, 404)

	// The secret is changed upstream: the old one is worth nothing from then on, also offline.
	f.set(func(f *fake) { f.fails, f.repos["vault"].secret = nil, "changed" })
	answers(t, s.handler(t), vault(f), 401, right...)
	f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
	answers(t, s.handler(t), vault(f), 401, right...)
}

// TestWithdrawn: while the node is online a decision holds no longer than it is fresh.
func TestWithdrawn(t *testing.T) {
	s, f := private()
	h := s.handler(t)
	right := as("alice", "s3cret")
	answers(t, h, vault(f), 200, right...)
	f.set(func(f *fake) { f.repos["vault"].secret = "changed" })
	answers(t, h, vault(f)[1:], 200, right...) // for five minutes, as a token of upstream's would
	s.pass(6 * time.Minute)
	answers(t, h, vault(f), 401, right...)
	// A secret that was wrong is tried again soon.
	f.set(func(f *fake) { f.repos["vault"].secret = "s3cret" })
	s.pass(11 * time.Second)
	answers(t, h, vault(f), 200, right...)
	// What is resolved is asked every time, and what that says is kept.
	f.set(func(f *fake) { f.repos["vault"].secret = "changed" })
	answers(t, h, vault(f)[:1], 401, right...)
	f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
	answers(t, s.handler(t), vault(f), 401, right...)
}

// TestTurnedPrivate: what was public and is not any more.
func TestTurnedPrivate(t *testing.T) {
	for _, hides := range []bool{false, true} {
		s, f := private()
		f.hides = hides
		paths := []string{"app/manifests/v1" + ns, "app/blobs/" + digestOf("layer").String() + ns}
		answers(t, s.handler(t), paths, 200)
		f.set(func(f *fake) { f.repos["app"].secret = "s3cret" })
		want := 401
		if hides {
			want = 404
		}
		answers(t, s.handler(t), paths, want)
		answers(t, s.handler(t), paths, 200, as("alice", "s3cret")...)
		f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
		answers(t, s.handler(t), paths, 401)
		answers(t, s.handler(t), paths, 200, as("alice", "s3cret")...)
	}
}

// TestHidden: a registry that says 404 of what is private.
func TestHidden(t *testing.T) {
	s, f := private()
	f.hides = true
	h := s.handler(t)
	right := as("alice", "s3cret")
	answers(t, h, vault(f), 404)
	answers(t, h, vault(f), 200, right...)
	answers(t, h, vault(f), 401) // who comes without is asked for one from now on
	answers(t, h, vault(f), 404, as("alice", "guess")...)
	f.set(func(f *fake) { f.repos["vault"].secret = "changed" })
	answers(t, s.handler(t), vault(f), 404, right...)
	f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
	answers(t, s.handler(t), vault(f), 401)
}

// TestOtherRepositories: content is stored once, and shown only where its own registry shows it.
func TestOtherRepositories(t *testing.T) {
	s, f := private()
	h := s.handler(t)
	answers(t, h, vault(f), 200, as("alice", "s3cret")...)
	answers(t, h, []string{"app/manifests/v1" + ns}, 200)
	secret := f.repos["vault"].v1().String()
	others := []string{"app/blobs/" + digestOf("gold").String() + ns, "app/manifests/" + secret + ns, "app/blobs/" + secret + ns,
		"app/blobs/" + digestOf("gold").String() + "?ns=other.example:5000"}
	for _, handler := range []http.Handler{h, s.handler(t)} {
		answers(t, handler, others[:3], 404)
	}
	// What both have is shown in both, once upstream said so.
	f.set(func(f *fake) { f.repos["app"].blobs[digestOf("gold")] = []byte("gold") })
	s.asks()
	if w := do(t, h, "GET", others[0]); w.Code != 200 || w.Body.String() != "gold" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got := s.asks(); len(got) != 1 || !strings.HasPrefix(got[0], "HEAD blob") {
		t.Errorf("asked %q", got)
	}
	f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
	answers(t, s.handler(t), others[:1], 200)
	answers(t, s.handler(t), others[1:3], 404)
}

// TestCheck: a secret that was seen while the node was online is worth something when it is not.
func TestCheck(t *testing.T) {
	for _, hides := range []bool{false, true} {
		s, f := private()
		f.hides = hides
		ref := oci.Reference{Registry: "reg.example", Repository: "vault", Tag: "v1"}
		secret := func(password string) upstream.Credential {
			return upstream.Credential{Username: "alice", Password: password}
		}
		h := s.handler(t)
		if d, err := h.Check(t.Context(), ref, secret("s3cret")); d != registry.Allowed || err != nil {
			t.Errorf("%q, %v", d, err)
		}
		if d, err := h.Check(t.Context(), ref, secret("guess")); d == registry.Allowed || hides != (err != nil) {
			t.Errorf("%q, %v", d, err)
		}
		if d, err := h.Check(t.Context(), oci.Reference{Registry: "reg.example", Repository: "app", Tag: "v1"}, secret("guess")); d != registry.Allowed || err != nil {
			t.Errorf("public: %q, %v", d, err)
		}
		// What was pulled ahead of time, with another credential.
		for _, path := range []string{"vault/manifests/v1", "vault/manifests/" + f.repos["vault"].v1().String(), "vault/blobs/" + digestOf("gold").String()} {
			do(t, h, "GET", path+ns, as("alice", "s3cret")...)
		}
		f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
		h = s.handler(t)
		answers(t, h, vault(f), 200, as("alice", "s3cret")...)
		answers(t, h, vault(f), 401)
		answers(t, h, vault(f), 401, as("alice", "guess")...)
		if d, err := h.Check(t.Context(), ref, secret("unheard of")); d != registry.Undecided || err == nil {
			t.Errorf("offline: %q, %v", d, err)
		}
	}
}

// TestPrivateLists: lists are asked of upstream each time; offline those see them who may read the repository.
func TestPrivateLists(t *testing.T) {
	s, f := private()
	h := s.handler(t)
	right := as("alice", "s3cret")
	lists := []string{"vault/tags/list" + ns, "vault/referrers/" + f.repos["vault"].v1().String() + ns}
	f.repos["vault"].referrers = []oci.Descriptor{{Digest: digestOf("sig"), ArtifactType: "a/sig"}}
	answers(t, h, lists, 401)
	answers(t, h, lists, 401, as("alice", "guess")...)
	answers(t, h, lists, 401, "Authorization", "Bearer x")
	answers(t, h, lists, 200, right...)
	f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
	answers(t, s.handler(t), lists, 404, right...) // a list decides nothing
	f.set(func(f *fake) { f.fails = nil })
	answers(t, h, vault(f), 200, right...)
	f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
	answers(t, s.handler(t), lists, 200, right...)
	answers(t, s.handler(t), lists, 401)
	answers(t, s.handler(t), lists, 401, as("alice", "guess")...)
}

// TestGuessing fills neither the disk nor the memory, and leaves no secret anywhere.
func TestGuessing(t *testing.T) {
	s, f := private()
	h := s.handler(t)
	answers(t, h, vault(f), 200, as("alice", "s3cret")...)
	writes := s.writes
	for i := range 6000 {
		if w := do(t, h, "HEAD", vault(f)[0], as("mallory", fmt.Sprint("hunter", i))...); w.Code != 401 {
			t.Fatal(w.Code)
		}
	}
	if s.writes != writes {
		t.Errorf("guessing wrote %d times", s.writes-writes)
	}
	if n := h.Fresh(); n > 5000 {
		t.Errorf("%d guesses are remembered", n)
	}
	everything := s.log.String() + fmt.Sprint(s.decisions, s.tagged, s.links, s.served)
	for _, secret := range []string{"s3cret", "hunter", "alice", "mallory", as("alice", "s3cret")[1]} {
		if strings.Contains(everything, secret) {
			t.Errorf("%q is written somewhere", secret)
		}
	}
	if len(s.decisions) == 0 || s.log.Len() == 0 {
		t.Error("nothing was written at all")
	}
}
