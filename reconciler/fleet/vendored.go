package fleet

import (
	"embed"
	"fmt"
	"path"

	"github.com/holdfast-dev/holdfast/policy/guardrails"
	"github.com/holdfast-dev/holdfast/schemas"
)

// VendorDir is where a fleet repo has the packages that Holdfast gives it.
const VendorDir = "cue.mod/pkg/holdfast.dev"

// Vendored gives the files that holdfast init puts under VendorDir, sorted by path: with them plain cue needs no network.
func Vendored() ([]File, error) {
	var out []File
	for _, m := range []struct {
		path string
		fs   embed.FS
	}{{guardrails.Path, guardrails.FS}, {schemas.Path, schemas.FS}} {
		entries, err := m.fs.ReadDir(".")
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", m.path, err)
		}
		for _, e := range entries {
			data, err := m.fs.ReadFile(e.Name())
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", m.path, err)
			}
			out = append(out, File{Path: path.Join("cue.mod/pkg", m.path, e.Name()), Data: data})
		}
	}
	return out, nil
}
