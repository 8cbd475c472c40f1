package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
)

// fieldName is how all fields of policy.json are written.
var fieldName = regexp.MustCompile(`^[a-z]+$`)

func decodePolicy(data []byte) (Policy, error) {
	var p Policy
	if len(data) > MaxFileBytes {
		return p, errorIn(PolicyFile, 0, "%d bytes, over the bound of %d", len(data), MaxFileBytes)
	}
	if err := uniqueKeys(data); err != nil {
		return p, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return p, errorIn(PolicyFile, lineAt(data, offsetOf(err, dec, data)), "%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return p, nil
}

// uniqueKeys refuses what encoding/json lets pass: an object with one key twice, keys that differ from a field's
// name by case only, and anything after the first value.
func uniqueKeys(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	var walk func(depth int) error
	fail := func(format string, args ...any) error {
		return errorIn(PolicyFile, lineAt(data, dec.InputOffset()), format, args...)
	}
	walk = func(depth int) error {
		tok, err := dec.Token()
		if err != nil {
			return errorIn(PolicyFile, lineAt(data, offsetOf(err, dec, data)), "not JSON: %v", err)
		}
		delim, ok := tok.(json.Delim)
		if !ok {
			return nil
		}
		if depth > 8 {
			return fail("nested too deeply")
		}
		seen := map[string]bool{}
		for dec.More() {
			if delim == '{' {
				key, err := dec.Token()
				if err != nil {
					return errorIn(PolicyFile, lineAt(data, offsetOf(err, dec, data)), "not JSON: %v", err)
				}
				name, _ := key.(string)
				if seen[name] {
					return fail("key %q is given twice", name)
				}
				seen[name] = true
				if depth != 1 && !fieldName.MatchString(name) { // encoding/json would fold it; at depth 1 stand roles
					return fail("unknown field %q", name)
				}
			}
			if err := walk(depth + 1); err != nil {
				return err
			}
		}
		if _, err := dec.Token(); err != nil {
			return errorIn(PolicyFile, lineAt(data, offsetOf(err, dec, data)), "not JSON: %v", err)
		}
		return nil
	}
	if err := walk(0); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fail("something follows the policy: a file holds one JSON object")
	}
	return nil
}

func offsetOf(err error, dec *json.Decoder, data []byte) int64 {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return syntax.Offset
	case errors.As(err, &typ):
		return typ.Offset
	}
	if _, field, ok := strings.Cut(err.Error(), "unknown field "); ok { // the error of encoding/json says no place
		if i := bytes.Index(data, []byte(field)); i >= 0 {
			return int64(i)
		}
	}
	return dec.InputOffset()
}

func lineAt(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(max(offset, 0), int64(len(data)))], []byte("\n"))
}
