package wire

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// whole tells whether skip takes all of b, but for whitespace, as one value.
func whole(b []byte) bool {
	end, err := skip(b, 0)
	return err == nil && space(b, end) == len(b)
}

var jsonSamples = []string{
	``, ` `, `null`, `true`, `false`, `nul`, `nulll`, `tru`, `True`, `0`, `-0`, `-`, `01`, `1.`, `1.5`, `.5`, `1e5`, `1E+5`, `1e-5`, `1e`, `1e+`, `+1`, `1a`,
	`""`, `"a"`, `"`, `"\"`, `"\\"`, `"\u00e9"`, `"\u00E9\ud83d\ude00"`, `"\ud800"`, `"\u12"`, `"\u12g4"`, `"\x"`, `"\/\b\f\n\r\t"`, "\"\x1f\"", "\"\x7f\xff\"", "\"a\nb\"",
	`{}`, `{ }`, `[]`, `[ ]`, `{`, `[`, `}`, `]`, `{]`, `[}`, `[1,2]`, `[1,]`, `[,1]`, `[1 2]`, `{"a":1}`, `{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{"a" 1}`, `{a:1}`, `{1:1}`,
	`{"a":{"b":[{"c":[]}]},"d":[{}]}`, `[[[[[[]]]]]]`, `[{"a":[}]]`, ` { "a" : [ 1 , "b" ] } `, `{}{}`, `{} x`, "\ufeff{}", "{\"a\"\v:1}",
	`"0123456789abcdef\"0123456789"`, "\"0123456\x00789\"", `"ééééééééééééé"`,
}

func TestSkipIsEncodingJSON(t *testing.T) {
	t.Parallel()
	for _, sample := range jsonSamples {
		if got, want := whole([]byte(sample)), json.Valid([]byte(sample)); got != want {
			t.Errorf("%q: valid is %v, encoding/json says %v", sample, got, want)
		}
	}
	for _, depth := range []int{1, 63, 64, 65, 127, 128, 129, 9999, 10000, 10001, 200000} {
		for _, brackets := range [][3]string{{"[", "", "]"}, {`{"a":`, "1", "}"}, {`[{"a":`, "[]", "}]"}} {
			sample := []byte(strings.Repeat(brackets[0], depth) + brackets[1] + strings.Repeat(brackets[2], depth))
			if got, want := whole(sample), json.Valid(sample); got != want {
				t.Errorf("%q nested %d times: valid is %v, encoding/json says %v", brackets[0], depth, got, want)
			}
			wrong := bytes.Replace(sample, []byte(brackets[2]), []byte("]}"), 1)
			if got, want := whole(wrong), json.Valid(wrong); got != want {
				t.Errorf("%q nested %d times, one bracket wrong: valid is %v, encoding/json says %v", brackets[0], depth, got, want)
			}
		}
	}
}

// TestPlain checks the search eight bytes at once against one byte at a time, for every byte at every place.
func TestPlain(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		for at := range 20 {
			b := []byte(strings.Repeat("\xe9", 20))
			b[at] = byte(c)
			want := len(b)
			if c == '"' || c == '\\' || c < ' ' {
				want = at
			}
			if got := plain(b, 0); got != want {
				t.Fatalf("byte %#x at %d: stopped at %d", c, at, got)
			}
		}
	}
}

// TestFinderFindsEnds: where skip sees a value's end the finder sees it too, wherever the pieces are cut.
func TestFinderFindsEnds(t *testing.T) {
	t.Parallel()
	for _, sample := range jsonSamples {
		b := bytes.TrimLeft([]byte(sample), " ")
		end, err := skip(b, 0)
		if err != nil {
			continue
		}
		b = append(b[:end:end], ',') // what ends a number
		for size := 1; size <= len(b); size++ {
			var find finder
			total, done := 0, false
			for rest := b; len(rest) > 0 && !done; {
				var n int
				n, done = find.scan(rest[:min(size, len(rest))])
				total, rest = total+n, rest[n:]
			}
			if !done || total != end {
				t.Errorf("%q in pieces of %d: end at %d (%v), want %d", sample, size, total, done, end)
			}
		}
	}
}

func TestUnquote(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{`""`: "", `"a b"`: "a b", `"\u00e9\n\"\\\/"`: "é\n\"\\/", `"\ud83d\ude00"`: "😀", `"\ud800x"`: "\ufffdx"} {
		if got := unquote([]byte(text)); string(got) != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestAppendQuoted(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "a b", "\"", `\`, "é", "\x00\x1f\x7f", "<&>", "\xff", "\u2028"} {
		want, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		got := appendQuoted(nil, text)
		var back string
		if err := json.Unmarshal(got, &back); err != nil || back != strings.ToValidUTF8(text, "\ufffd") {
			t.Errorf("%q: wrote %s, encoding/json writes %s", text, got, want)
		}
	}
}

// FuzzSkip compares the syntax check with encoding/json.
func FuzzSkip(f *testing.F) {
	for _, sample := range jsonSamples {
		f.Add([]byte(sample))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := whole(b), json.Valid(b); got != want {
			t.Errorf("%q: valid is %v, encoding/json says %v", b, got, want)
		}
	})
}
