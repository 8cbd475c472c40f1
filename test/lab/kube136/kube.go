//go:build tools

// Package kube136 pins an older kubelet for the lab: nodes at the edge are not all upgraded on the same day. Like test/lab/kube it is a
// module of its own.
package kube136

import (
	_ "k8s.io/kubernetes/cmd/kubelet"
)
