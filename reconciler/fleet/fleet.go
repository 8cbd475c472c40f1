// Package fleet turns CUE into plans. The unit of evaluation is one pool: the root's files, the modules and policies
// they import, and the files of pools/<pool>. Nothing evaluates the fleet as one value, so what a node pays does not
// grow with the fleet. What spans pools is checked in Go, over the results.
//
// Evaluate handles input from elsewhere, so agents, hub and commands run it in a child process: see Call.
package fleet

// File is one file of a fleet repo.
type File struct {
	// Path is relative to the repo's root, with forward slashes.
	Path string `json:"path"`
	Data []byte `json:"data"`
}

// Input is what one pool's plan is computed from.
type Input struct {
	// Fleet is the fleet's id, as trust/policy.json has it.
	Fleet string `json:"fleet"`
	// Pool names the pool, which is also its folder under pools/. If it is empty only the root is evaluated.
	Pool string `json:"pool"`
	// Files are those Needed says yes to, in any order. Others are ignored.
	Files []File `json:"files"`
}
