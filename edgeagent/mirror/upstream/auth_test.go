package upstream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// private starts a registry that wants tokens from realm; "" is a realm of its own. user is who may.
func private(t *testing.T, realm func() string, user string) (*httptest.Server, *seen) {
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		repository := strings.TrimPrefix(strings.Split(r.URL.Path, "/manifests/")[0], "/v2/")
		if r.Header.Get("Authorization") != "Bearer "+user+"|reg|repository:"+repository+":pull" {
			w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="reg",scope="repository:%s:pull,push"`, realm(), repository))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		sendManifest(w, r, manifestOf([]byte("x")))
	})
}

// tokenServer starts a token server that knows one user.
func tokenServer(t *testing.T) (*httptest.Server, *seen) {
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, with := r.BasicAuth()
		r.ParseForm()
		switch {
		case !with && r.Form.Get("refresh_token") == "":
			tokenAnswer(w, r, "anyone")
		case password == "secret" || r.Method == http.MethodPost && r.Form.Get("refresh_token") == "identity":
			tokenAnswer(w, r, cmp.Or(user, "ann"))
		default:
			http.Error(w, `{"details":"incorrect username or password"}`, http.StatusUnauthorized)
		}
	})
}

func TestTokenFlow(t *testing.T) {
	ann := Credential{Username: "ann", Password: "secret"}
	for _, test := range []struct {
		name     string
		cred     Credential
		user     string // who may
		declared bool
		want     Kind
		contact  bool // the token server is asked
	}{
		{name: "nobody at an undeclared token server", user: "anyone", contact: true},
		{name: "a password", cred: ann, user: "ann", declared: true, contact: true},
		{name: "an identity token", cred: Credential{IdentityToken: "identity"}, user: "ann", declared: true, contact: true},
		{name: "a password to an undeclared token server", cred: ann, user: "ann", want: Refused},
		{name: "a wrong password", cred: Credential{Username: "ann", Password: "guess"}, user: "ann", declared: true, want: Unauthorized, contact: true},
		{name: "somebody else", cred: ann, user: "bob", declared: true, want: Unauthorized, contact: true},
		{name: "nobody at a private registry", user: "ann", want: Unauthorized, contact: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			tokenHost, asked := tokenServer(t)
			reg, _ := private(t, func() string { return tokenHost.URL + "/token?account=x" }, test.user)
			var log bytes.Buffer
			cfg := Config{Credentials: test.cred, Log: slog.New(slog.NewTextHandler(&log, nil))}
			if test.declared {
				cfg.Hosts = []string{host(tokenHost)}
			}
			r := client(t, reg, cfg)
			r.cfg.CA.AddCert(tokenHost.Certificate())
			r.trustEverywhere(tokenHost)
			err := getManifest(r)
			if test.want == "" && err != nil {
				t.Fatal(err)
			}
			if test.want != "" {
				wantKind(t, err, test.want)
			}
			if got := len(asked.all()) > 0; got != test.contact {
				t.Errorf("the token server was asked: %v, want %v", got, test.contact)
			}
			for _, secret := range []string{"secret", "guess", "identity"} {
				if strings.Contains(fmt.Sprint(err)+log.String()+fmt.Sprintf("%v %+v %#v", test.cred, test.cred, test.cred), secret) {
					t.Errorf("the secret shows: %v\n%s", err, log.String())
				}
			}
			for _, req := range asked.all() {
				if req.Form.Get("scope") != "repository:team/app:pull" {
					t.Errorf("asked for scope %q: more than is needed", req.Form.Get("scope"))
				}
			}
		})
	}
}

func TestTokenIsFetchedOnce(t *testing.T) {
	tokenHost, asked := tokenServer(t)
	reg, requests := private(t, func() string { return tokenHost.URL }, "ann")
	r := client(t, reg, Config{Hosts: []string{host(tokenHost)}, Credentials: Credential{Username: "ann", Password: "secret"}})
	r.cfg.CA.AddCert(tokenHost.Certificate())
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := getManifest(r); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(asked.all()); n != 1 {
		t.Errorf("20 requests fetched %d tokens, want 1", n)
	}
	before := len(requests.all())
	if err := getManifest(r); err != nil {
		t.Fatal(err)
	}
	if n := len(requests.all()) - before; n != 1 {
		t.Errorf("with a token at hand the registry was asked %d times, want once", n)
	}
	// Another caller's token is another.
	wantKind(t, getManifest(r.As(Credential{Username: "ann", Password: "guess"})), Unauthorized)
	wantKind(t, getManifest(r.As(Credential{})), Unauthorized)
	if err := getManifest(r.As(Credential{Username: "ann", Password: "secret"})); err != nil {
		t.Error(err)
	}
}

// TestStaleToken: a token that the registry no longer takes is replaced, once.
func TestStaleToken(t *testing.T) {
	var mu sync.Mutex
	generation, fetched := 1, 0
	tokenHost, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fetched++
		json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprint("t", generation)})
	})
	reg, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		want := fmt.Sprint("Bearer t", generation)
		mu.Unlock()
		if r.Header.Get("Authorization") != want {
			w.Header().Set("Www-Authenticate", `Bearer realm="`+tokenHost.URL+`"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		sendManifest(w, r, manifestOf(nil))
	})
	r := client(t, reg, Config{Hosts: []string{host(tokenHost)}})
	r.cfg.CA.AddCert(tokenHost.Certificate())
	for want := 1; want <= 2; want++ {
		for range 2 {
			if err := getManifest(r); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		if fetched != want {
			t.Errorf("%d tokens were fetched, want %d", fetched, want)
		}
		generation++
		mu.Unlock()
	}
}

func TestTokensAgeAndAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts tokens
		ts.init()
		fetched := 0
		get := func(key tokenKey) {
			t.Helper()
			if _, err := ts.get(t.Context(), key, "", func() (string, time.Duration, error) { fetched++; return "h", time.Minute, nil }); err != nil {
				t.Fatal(err)
			}
		}
		key := tokenKey{scope: "a"}
		get(key)
		time.Sleep(50 * time.Second)
		if get(key); fetched != 1 {
			t.Errorf("a good token was fetched again")
		}
		time.Sleep(5 * time.Second)
		if get(key); fetched != 2 {
			t.Errorf("a token that is over within seconds was used")
		}
		for i := range 2 * maxTokens {
			get(tokenKey{scope: fmt.Sprint(i)})
		}
		if len(ts.known) > maxTokens {
			t.Errorf("%d tokens are kept, want at most %d", len(ts.known), maxTokens)
		}
		// One whose fetcher was called off is fetched by who waits.
		off := errors.New("called off")
		release, first := make(chan struct{}), make(chan error, 1)
		go func() {
			_, err := ts.get(t.Context(), tokenKey{scope: "w"}, "", func() (string, time.Duration, error) { <-release; return "", 0, off })
			first <- err
		}()
		synctest.Wait()
		second := make(chan error, 1)
		go func() {
			_, err := ts.get(context.Background(), tokenKey{scope: "w"}, "", func() (string, time.Duration, error) { return "h", time.Minute, nil })
			second <- err
		}()
		synctest.Wait()
		close(release)
		if e1, e2 := <-first, <-second; e1 != off || e2 != nil {
			t.Errorf("got %v and %v, want the first to fail alone", e1, e2)
		}
	})
}

func TestBadTokenServers(t *testing.T) {
	for _, test := range []struct {
		name    string
		realm   string // "" is the test's server
		handler http.HandlerFunc
		want    Kind
	}{
		{name: "no https", realm: "http://127.0.0.1/token", want: Refused},
		{name: "no address", realm: "://", want: Refused},
		{name: "a password in it", realm: "https://u:p@127.0.0.1/token", want: Refused},
		{name: "a page", handler: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>log in") }, want: ErrorPage},
		{name: "no token", handler: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }, want: ErrorPage},
		{name: "a header in the token", handler: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"token":"a\r\nX: y"}`) }, want: ErrorPage},
		{name: "endless", handler: func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"token":"%s"}`, strings.Repeat("a", 2*maxTokenAnswer))
		}, want: ErrorPage},
		{name: "a redirect", handler: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, want: Refused},
		{name: "403", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, want: Denied},
		{name: "404", handler: http.NotFound, want: Unauthorized},
		{name: "429", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }, want: RateLimited},
		{name: "500", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, want: Broken},
	} {
		t.Run(test.name, func(t *testing.T) {
			tokenHost, asked := serve(t, func(w http.ResponseWriter, r *http.Request) { test.handler(w, r) })
			realm := test.realm
			if realm == "" {
				realm = tokenHost.URL
			}
			reg, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Www-Authenticate", `Bearer realm="`+realm+`"`)
				w.WriteHeader(http.StatusUnauthorized)
			})
			r := client(t, reg, Config{Hosts: []string{host(tokenHost)}, Credentials: Credential{Username: "ann", Password: "secret"}})
			r.cfg.CA.AddCert(tokenHost.Certificate())
			wantKind(t, getManifest(r), test.want)
			if n := len(asked.all()); n > 1 {
				t.Errorf("the token server was asked %d times", n)
			}
		})
	}
}

func TestBasic(t *testing.T) {
	reg, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "secret" {
			w.Header().Set("Www-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		sendManifest(w, r, manifestOf(nil))
	})
	r := client(t, reg, Config{Credentials: Credential{Username: "ann", Password: "secret"}})
	for range 2 {
		if err := getManifest(r); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(requests.all()); n != 3 {
		t.Errorf("two fetches made %d requests, want 3: the second knows what is asked for", n)
	}
	wantKind(t, getManifest(r.As(Credential{})), Unauthorized)
	wantKind(t, getManifest(r.As(Credential{Username: "ann", Password: "guess"})), Unauthorized)
	fails := client(t, reg, Config{Credentials: failing{}})
	if err := getManifest(fails); !errors.Is(err, errFailing) {
		t.Errorf("got %v, want the credential source's error", err)
	}
}

var errFailing = errors.New("the file cannot be read")

type failing struct{}

func (failing) Credential(context.Context, string) (Credential, error) {
	return Credential{}, errFailing
}

func TestNoChallenge(t *testing.T) {
	reg, requests := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Www-Authenticate", `Negotiate`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	wantKind(t, getManifest(client(t, reg, Config{Credentials: Credential{Username: "ann", Password: "secret"}})), Unauthorized)
	if n := len(requests.all()); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
}
