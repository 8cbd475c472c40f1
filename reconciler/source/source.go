// Package source reads the fleet repo: it asks where the branch stands, fetches what is new into a bare clone, and reads
// objects from there. Everything a Git server says is hostile until it is checked: packs are received and indexed in a
// child process with limits, every object is hashed again when it is read, and a clone that is damaged is set aside and
// fetched again. Who may sign what is not its business: see policy/verify.
package source

import (
	"fmt"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

// NotesRef is where countersignatures travel.
const NotesRef = "refs/notes/holdfast"

// Config says which branch of which repository is followed, and where its clone is.
type Config struct {
	// URL is https://…, http://…, ssh://… or user@host:path. Plain http carries no credentials. file:// is refused.
	URL string `json:"url"`
	// Branch is the followed branch, without refs/heads/.
	Branch string `json:"branch"`
	// Dir is the folder of the bare clone. It is made when first needed, and replaced when it is damaged.
	Dir string `json:"dir"`
	// Auth is how to log in, and whom to trust on the way.
	Auth Auth `json:"auth,omitzero"`
	// Limits bound what a fetch may cost. Zeros mean the defaults.
	Limits Limits `json:"limits,omitzero"`
}

// Limits bound what a fleet repo may cost. A zero means the default.
type Limits struct {
	// RepoBytes bounds the clone on disk, and so what one fetch may transfer. Default 512 MiB.
	RepoBytes int64 `json:"repoBytes,omitempty"`
	// ObjectBytes bounds one object, inflated. Default 16 MiB.
	ObjectBytes int64 `json:"objectBytes,omitempty"`
	// InflatedBytes bounds the sum of all objects of one fetch, inflated. Default 16 GiB.
	InflatedBytes int64 `json:"inflatedBytes,omitempty"`
	// Objects bounds the number of objects of one fetch. Default 1,000,000.
	Objects int64 `json:"objects,omitempty"`
	// Files bounds the number of files in one revision. Default 200,000.
	Files int64 `json:"files,omitempty"`
	// Depth bounds how deep folders nest. Default 64.
	Depth int `json:"depth,omitempty"`
	// ExportBytes bounds the files that one evaluation reads. Default 64 MiB.
	ExportBytes int64 `json:"exportBytes,omitempty"`
	// MemoryMB bounds the writable memory of the fetching child, in MiB. Default 256.
	MemoryMB int64 `json:"memoryMB,omitempty"`
	// CPU bounds the processor time of the fetching child. Default two minutes.
	CPU time.Duration `json:"cpu,omitempty"`
	// PollTimeout bounds one poll. Default 30 s.
	PollTimeout time.Duration `json:"pollTimeout,omitempty"`
	// FetchTimeout bounds one fetch. Default 10 minutes.
	FetchTimeout time.Duration `json:"fetchTimeout,omitempty"`
	// IdleTimeout ends a transfer that stands still. Default 60 s.
	IdleTimeout time.Duration `json:"idleTimeout,omitempty"`
}

// WithDefaults gives the limits with every zero replaced.
func (l Limits) WithDefaults() Limits {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	setTime := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.RepoBytes, 512<<20)
	set(&l.ObjectBytes, 16<<20)
	set(&l.InflatedBytes, 16<<30)
	set(&l.Objects, 1_000_000)
	set(&l.Files, 200_000)
	set(&l.ExportBytes, 64<<20)
	set(&l.MemoryMB, 256)
	if l.Depth == 0 {
		l.Depth = 64
	}
	setTime(&l.CPU, 2*time.Minute)
	setTime(&l.PollTimeout, 30*time.Second)
	setTime(&l.FetchTimeout, 10*time.Minute)
	setTime(&l.IdleTimeout, time.Minute)
	return l
}

// Refs is where a repository stands: ids of 40 hex digits, or "" for what is not there.
type Refs struct {
	// Tip is the commit at the followed branch.
	Tip string `json:"tip"`
	// Notes is the commit at refs/notes/holdfast.
	Notes string `json:"notes,omitempty"`
}

func (r Refs) String() string { return fmt.Sprintf("tip %.12s, notes %.12s", r.Tip, r.Notes) }

// Children are the functions this package runs in children. Programs hand them to sandbox.Main.
func Children() map[string]sandbox.Func {
	return map[string]sandbox.Func{
		childRefs:  sandbox.Serve(serveRefs),
		childFetch: sandbox.Serve(serveFetch),
	}
}

// Names of the children.
const (
	childRefs  = "source-refs"
	childFetch = "source-fetch"
)
