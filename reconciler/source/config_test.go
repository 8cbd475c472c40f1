package source_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/source"
)

func TestValidate(t *testing.T) {
	hosts := source.Auth{KnownHosts: "h", Identity: "i"}
	for _, c := range []struct {
		url  string
		auth source.Auth
		says string // "" for fine
	}{
		{"https://git.example.com/fleet.git", source.Auth{}, ""},
		{"https://git.example.com:8443/a/b", source.Auth{Username: "u", Password: "p"}, ""},
		{"http://127.0.0.1:8080/fleet.git", source.Auth{}, ""},
		{"http://git.example.com/fleet.git", source.Auth{}, ""},
		{"http://git.example.com/fleet.git", source.Auth{Password: "p"}, "never travel over plain http"},
		{"http://git.example.com/fleet.git", source.Auth{BearerToken: "p"}, "never travel over plain http"},
		{"http://git.example.com/fleet.git", source.Auth{Username: "t"}, "never travel over plain http"},
		{"http://127.0.0.1/fleet.git", source.Auth{BearerToken: "p"}, "never travel over plain http"},
		{"ssh://git@git.example.com/fleet.git", hosts, ""},
		{"ssh://git@git.example.com:2222/fleet.git", hosts, ""},
		{"git@git.example.com:team/fleet.git", hosts, ""},
		{"git@git.example.com:team/fleet.git", source.Auth{Identity: "i"}, "knownHosts"},
		{"git@git.example.com:team/fleet.git", source.Auth{KnownHosts: "h"}, "identity"},
		{"git@git.example.com:team/fleet.git", source.Auth{KnownHosts: "h", Identity: "i", BearerToken: "t"}, "bearerToken"},
		{"https://git.example.com/fleet.git", source.Auth{Identity: "i"}, "not an SSH URL"},
		{"https://git.example.com/fleet.git", source.Auth{Password: "p", BearerToken: "t"}, "give one"},
		{"https://u:p@git.example.com/fleet.git", source.Auth{}, "URLs are logged"},
		{"ssh://git:p@git.example.com/fleet.git", hosts, "URLs are logged"},
		{"file:///srv/fleet.git", source.Auth{}, "over https, ssh or http only"},
		{"/srv/fleet.git", source.Auth{}, "over https, ssh or http only"},
		{"../fleet.git", source.Auth{}, "over https, ssh or http only"},
		{"git://git.example.com/fleet.git", source.Auth{}, "not supported"},
		{"https://git.example.com", source.Auth{}, "names no repository"},
		{"https:///fleet.git", source.Auth{}, "names no repository"},
		{"https://git.example.com/fleet.git?token=x", source.Auth{}, "query"},
		{"", source.Auth{}, "over https, ssh or http only"},
		{"https://git.example.com/%zz", source.Auth{}, "cannot be read"},
	} {
		err := source.Config{URL: c.url, Branch: "main", Dir: "/x", Auth: c.auth}.Validate()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s with %v: %v, want it to say %q", c.url, c.auth, err, c.says)
		}
		if err != nil && strings.Contains(err.Error(), ":p@") {
			t.Errorf("the message tells the password: %v", err)
		}
	}
	for _, branch := range []string{"", "a..b", "a b", "/x", "x.lock", "-x\x00"} {
		if err := (source.Config{URL: "https://h/r", Branch: branch, Dir: "/x"}).Validate(); err == nil {
			t.Errorf("branch %q is accepted", branch)
		}
	}
}

func TestAuthPrintsNoSecrets(t *testing.T) {
	a := source.Auth{Username: "u-secret", Password: "p-secret", BearerToken: "t-secret", Identity: "i-secret", IdentityPassphrase: "x-secret"}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "auth", a)
	for _, text := range []string{fmt.Sprint(a), fmt.Sprintf("%+v", a), fmt.Sprintf("%#v", a), log.String(), fmt.Sprintf("%+v", source.Config{Auth: a})} {
		if strings.Contains(text, "-secret") || !strings.Contains(text, "password") {
			t.Errorf("got %s", text)
		}
	}
}

func TestParseAuth(t *testing.T) {
	a, err := source.ParseAuth([]byte("username: u\npassword: p\nca: |\n  line\nknownHosts: k\n"))
	if err != nil || a.Username != "u" || a.Password != "p" || a.CA != "line\n" || a.KnownHosts != "k" {
		t.Fatalf("%v", err)
	}
	_, err = source.ParseAuth([]byte("pasword: p-secret\n"))
	if err == nil || !strings.Contains(err.Error(), "pasword") || strings.Contains(err.Error(), "p-secret") {
		t.Fatalf("got %v", err)
	}
}

func TestDelay(t *testing.T) {
	for _, c := range []struct {
		interval time.Duration
		failures int
		random   float64
		want     time.Duration
	}{
		{time.Minute, 0, 0.5, time.Minute},
		{time.Minute, 0, 0, 48 * time.Second},
		{time.Minute, 0, 0.999999999, 72 * time.Second},
		{time.Minute, 1, 0.5, 2 * time.Minute},
		{time.Minute, 3, 0.5, 8 * time.Minute},
		{time.Minute, 5, 0.5, 30 * time.Minute},
		{time.Minute, 1_000_000, 0.5, 30 * time.Minute},
		{time.Hour, 0, 0.5, time.Hour},
		{time.Hour, 7, 0.5, time.Hour},
	} {
		if got := source.Delay(c.interval, c.failures, c.random).Round(time.Second); got != c.want {
			t.Errorf("%v after %d failures with %v: %v, want %v", c.interval, c.failures, c.random, got, c.want)
		}
	}
}
