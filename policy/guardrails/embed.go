// Package guardrails holds the CUE rules every fleet keeps whatever it declares, and gives them to holdfast init. An
// organisation's own rules are a package of its own, in its fleet repo's policy/.
package guardrails

import "embed"

// Path is the package's import path. A fleet repo has the files under cue.mod/pkg/<Path>.
const Path = "holdfast.dev/policy/guardrails"

// FS holds the package's files: *.cue.
//
//go:embed *.cue
var FS embed.FS
