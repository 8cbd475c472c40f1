package main

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const printed = `goos: linux
pkg: github.com/holdfast-dev/holdfast/reconciler/source
cpu: something
BenchmarkPoll/refs=10000-2         	     100	    812345 ns/op	      1890 http-bytes	       1.000 requests
BenchmarkVerify 	 2	 1.5 ns/op
PASS
ok  	github.com/holdfast-dev/holdfast/reconciler/source	1.2s
`
	found, err := parse(strings.NewReader(printed))
	if err != nil {
		t.Fatal(err)
	}
	want := results{
		{"reconciler/source", "Poll/refs=10000", "ns/op"}:      812345,
		{"reconciler/source", "Poll/refs=10000", "http-bytes"}: 1890,
		{"reconciler/source", "Poll/refs=10000", "requests"}:   1,
		{"reconciler/source", "Verify", "ns/op"}:               1.5,
	}
	if len(found) != len(want) {
		t.Errorf("got %v, want %v", found, want)
	}
	for k, v := range want {
		if found[k] != v {
			t.Errorf("%v is %v, want %v", k, found[k], v)
		}
	}
	if _, err := parse(strings.NewReader("BenchmarkX 1 many ns/op\n")); err == nil {
		t.Error("a value that is no number was let through")
	}
}
