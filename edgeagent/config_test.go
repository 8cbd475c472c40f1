package edgeagent

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestConfigFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	for _, c := range []struct{ text, want string }{
		{"state: /data\nparts: [nodepool]\naddress: 127.0.0.1:1\nlogLevel: debug\nlogFormat: json\n", ""},
		{"", ""},
		{"stat: /data\n", `unknown field "stat"`},
		{"state: [1]\n", "state"},
		{"state: a\nstate: b\n", "state"},
		{"parts: [tunnels]\naddress: nine\nlogLevel: loud\nlogFormat: xml\n", "there is no part \"tunnels\"; there is nodepool, proxy\naddress: \"nine\" is neither host:port nor \"off\"\nlogLevel: \"loud\" is none of debug, info, warn, error\nlogFormat: \"xml\" is neither text nor json"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := LoadConfig(path, false)
		if err == nil {
			err = cfg.WithDefaults().Validate()
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v", c.text, err)
		}
	}
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none"), true); err != nil {
		t.Error(err)
	}
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none"), false); err == nil {
		t.Error("a file that was named may not be missing")
	}
	cfg := Config{}.WithDefaults()
	var out bytes.Buffer
	if err := WriteConfig(&out, cfg); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadConfig(path, false); err != nil || !reflect.DeepEqual(got, cfg) {
		t.Errorf("%+v, %v", got, err)
	}
}
