package plan

import (
	"encoding/json"
	"fmt"
	"time"
)

// Duration is a time.Duration that JSON carries in Go's form: "5m0s". It is never negative.
type Duration time.Duration

// String gives Go's form.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON gives Go's form as a JSON string.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads Go's form: a JSON string such as "90s" or "24h".
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a duration is a string such as \"90s\": %w", err)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return err
	}
	if v < 0 {
		return fmt.Errorf("duration %q is negative", s)
	}
	*d = Duration(v)
	return nil
}
