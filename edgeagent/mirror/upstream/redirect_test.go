package upstream

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

func TestRedirects(t *testing.T) {
	blob := []byte("the blob")
	digest := oci.SHA256.FromBytes(blob)
	store, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(blob)))
	})
	port := strings.TrimPrefix(host(store), "127.0.0.1")
	for _, test := range []struct {
		name     string
		location string
		hosts    []string
		want     Kind
		says     string
	}{
		{name: "to a declared host", location: store.URL + "/blob", hosts: []string{host(store)}},
		{name: "to a private address", location: store.URL + "/blob", want: Refused, says: "private"},
		{name: "to a name of a private address", location: "https://localhost" + port + "/blob", want: Refused, says: "private"},
		{name: "to a private address in IPv6", location: "https://[::ffff:127.0.0.1]" + port + "/blob", want: Refused, says: "private"},
		{name: "to no address", location: "https://0.0.0.0" + port + "/blob", want: Refused, says: "private"},
		{name: "to another port of a declared host", location: store.URL + "/blob", hosts: []string{"127.0.0.1:1"}, want: Refused, says: "private"},
		{name: "without TLS", location: "http://127.0.0.1/blob", want: Refused, says: "https"},
		{name: "with a password", location: "https://u:p@127.0.0.1/blob", want: Refused, says: "https"},
		{name: "to a file", location: "file:///etc/passwd", want: Refused, says: "https"},
		{name: "nowhere", location: "", want: Unexpected},
		{name: "to nonsense", location: "https://[::1/%zz", want: Unexpected},
		{name: "to itself for ever", location: "?again", want: Refused, says: "more than 5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			reg, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", test.location)
				w.WriteHeader(http.StatusTemporaryRedirect)
			})
			r := client(t, reg, Config{Hosts: test.hosts})
			r.cfg.CA.AddCert(store.Certificate())
			got, err := readBlob(r, digest, int64(len(blob)), 0)
			if test.want == "" {
				if err != nil || string(got) != string(blob) {
					t.Errorf("got %q, %v", got, err)
				}
				return
			}
			if wantKind(t, err, test.want); !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error %q does not say %q", err, test.says)
			}
			if n := len(requests.all()); n > maxRedirects+1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// TestRedirectCarriesNothing: whatever logs in at the registry does not go on, and what is needed does.
func TestRedirectCarriesNothing(t *testing.T) {
	blob := []byte("the blob")
	store, stored := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(blob)))
	})
	reg, asked := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "secret"})
		http.Redirect(w, r, store.URL+"/blob", http.StatusFound)
	})
	for _, declared := range []bool{true, false} {
		cfg := Config{Credentials: Credential{Username: "ann", Password: "secret"}}
		if declared {
			cfg.Hosts = []string{host(store)}
		}
		r := client(t, reg, cfg)
		r.cfg.CA.AddCert(store.Certificate())
		r.trustEverywhere(store)
		got, err := readBlob(r, oci.SHA256.FromBytes(blob), int64(len(blob)), 4)
		if err != nil || string(got) != "blob" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	for _, req := range stored.all() {
		for name := range req.Header {
			if name != "Range" && name != "User-Agent" {
				t.Errorf("the redirect carried %s", name)
			}
		}
		if req.Header.Get("Range") != "bytes=4-" {
			t.Errorf("the redirect carried Range %q", req.Header.Get("Range"))
		}
	}
	if len(stored.all()) != 2 || len(asked.all()) != 4 {
		t.Errorf("%d and %d requests, want 2 and 4", len(stored.all()), len(asked.all()))
	}
}

// TestRedirectToOwnHost: not even the registry itself gets the credential again, and it is not asked to log in by where it redirects to.
func TestRedirectToOwnHost(t *testing.T) {
	reg, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	})
	wantKind(t, getManifest(client(t, reg, Config{Credentials: Credential{Username: "ann", Password: "secret"}})), Unauthorized)
	if n := len(requests.all()); n != 3 {
		t.Errorf("asked %d times, want 3: without, with, at the redirect", n)
	}
}

func TestPrivateAddresses(t *testing.T) {
	for text, want := range map[string]bool{
		"127.0.0.1": true, "::1": true, "0.0.0.0": true, "::": true, "0.1.2.3": true,
		"10.0.0.1": true, "172.16.0.1": true, "172.31.255.255": true, "192.168.1.1": true, "fd00::1": true,
		"169.254.169.254": true, "fe80::1": true, "fe80::1%eth0": true, "100.64.0.1": true, "192.0.0.8": true,
		"224.0.0.1": true, "ff02::1": true, "255.255.255.255": true, "240.0.0.1": true,
		"::ffff:10.0.0.1": true, "::ffff:127.0.0.1": true, "::10.0.0.1": true, "::ffff:0:10.0.0.1": true,
		"64:ff9b::10.0.0.1": true, "64:ff9b::169.254.169.254": true, "64:ff9b:1::1": true, "2002:a00:1::": true, "2001:0:a00:1::": true, "fec0::1": true,
		"198.18.0.1": true, "192.0.2.1": true, "2001:db8::1": true,
		"1.1.1.1": false, "172.32.0.1": false, "100.128.0.1": false, "2606:4700::1111": false, "64:ff9b::1.1.1.1": false, "::ffff:1.1.1.1": false, "2a00:1450::1": false,
	} {
		if got := isPrivate(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: private is %v, want %v", text, got, want)
		}
	}
}
