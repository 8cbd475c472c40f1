// Package selftest asks, while the node is online, whether it would come back offline: it replays the boot sequence of kubelet and
// kube-proxy against the cache and lists what would be missing, pod by pod. A node is Autonomous only if nothing is.
package selftest

import (
	"time"
)

// Missing is one thing that a boot without link would want and not get.
type Missing struct {
	// Pod that needs it, as namespace/name; "" if the node does.
	Pod string `json:"pod,omitempty"`
	// Kind and Name of what is missing: "Secret" and "default/db".
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Why it would not be answered.
	Why string `json:"why"`
}

// Result is what came of a replay.
type Result struct {
	// Complete: every request of the boot would be answered.
	Complete bool      `json:"complete"`
	At       time.Time `json:"at"`
	// Asked is how many requests were replayed, Pods for how many pods.
	Asked   int       `json:"asked"`
	Pods    int       `json:"pods"`
	Missing []Missing `json:"missing,omitempty"`
}
