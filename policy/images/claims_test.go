package images

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

const fuzzed = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// FuzzClaims reads what is accepted a second time, as a reader would that knows no structs. Both must see the same image.
func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"critical":{"identity":{"docker-reference":"a/b"},"image":{"docker-manifest-digest":"` + fuzzed + `"},"type":"cosign container image signature"},"optional":null}`))
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + strings.TrimPrefix(fuzzed, "sha256:") + `"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if payloadAbout(data, fuzzed) == nil {
			critical := field(t, decoded(t, data), "critical")
			if got := field(t, field(t, critical, "image"), "docker-manifest-digest"); got != fuzzed {
				t.Fatalf("%s is about %v", data, got)
			}
			if got := field(t, critical, "type"); got != payloadType {
				t.Fatalf("%s is a %v", data, got)
			}
		}
		if statementAbout(data, fuzzed) == nil {
			s := decoded(t, data)
			if got := field(t, s, "predicateType"); got != signPredicateType {
				t.Fatalf("%s attests %v", data, got)
			}
			subjects, _ := field(t, s, "subject").([]any)
			if !slices.ContainsFunc(subjects, func(one any) bool {
				digests, _ := field(t, one, "digest").(map[string]any)
				return digests["sha256"] == strings.TrimPrefix(fuzzed, "sha256:")
			}) {
				t.Fatalf("%s is about %v", data, subjects)
			}
		}
	})
}

func decoded(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return v
}

// field gives a field in whatever case, of which there must not be two.
func field(t *testing.T, of any, name string) any {
	t.Helper()
	object, _ := of.(map[string]any)
	var found any
	times := 0
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if strings.EqualFold(key, name) {
			found, times = object[key], times+1
		}
	}
	if times > 1 {
		t.Fatalf("%q stands %d times in %v", name, times, of)
	}
	return found
}

// FuzzManifests: what is read of untrusted lists stays small, and a digest that is taken is one.
func FuzzManifests(f *testing.F) {
	f.Add([]byte(`{"manifests":[{"digest":"`+fuzzed+`"},{}],"layers":[{"annotations":{"dev.cosignproject.cosign/signature":"eA=="}}]}`), fuzzed)
	f.Add([]byte(`{"manifests":null,"layers":{}}`), "sha512:")
	f.Fuzz(func(t *testing.T, data []byte, digest string) {
		c, err := parseContent(data)
		for _, list := range []descriptors{c.Manifests, c.Layers} {
			if err != nil && len(list) > 0 || len(list) > maxDescriptors || len(list)*2 > len(data) {
				t.Fatalf("%d descriptors of %d bytes", len(list), len(data))
			}
		}
		if algorithm, hexadecimal, err := splitDigest(digest); err == nil && (algorithm+":"+hexadecimal != digest || strings.ContainsAny(digest, "/.\\")) {
			t.Fatalf("%q was taken for a digest", digest)
		}
	})
}

func TestTooManyDescriptors(t *testing.T) {
	list := func(n int) []byte {
		return fmt.Appendf(nil, `{"manifests":[%s]}`, strings.TrimSuffix(strings.Repeat("{},", n), ","))
	}
	if i, err := parseContent(list(maxDescriptors)); err != nil || len(i.Manifests) != maxDescriptors {
		t.Fatalf("got %d, %v", len(i.Manifests), err)
	}
	if _, err := parseContent(list(maxDescriptors + 1)); err == nil || !strings.Contains(err.Error(), "more than 32768 descriptors") {
		t.Fatalf("got %v", err)
	}
	if _, err := parseContent([]byte(`{"manifests":{}}`)); err == nil {
		t.Fatal("an object passed for a list")
	}
}
