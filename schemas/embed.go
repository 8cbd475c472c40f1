// Package schemas holds the CUE module that fleet repos import, and gives its files to holdfast init. It has no logic.
package schemas

import "embed"

// Path is the module's import path. A fleet repo has the files under cue.mod/pkg/<Path>.
const Path = "holdfast.dev/schemas"

// FS holds the module's files: *.cue.
//
//go:embed *.cue
var FS embed.FS
