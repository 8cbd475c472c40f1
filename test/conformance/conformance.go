//go:build tools

// Package conformance pins the OCI distribution conformance program, which the mirror's tests build from the module cache. It is a
// module of its own, so that what the program needs stays out of Holdfast's go.mod.
package conformance

import _ "github.com/opencontainers/distribution-spec/conformance"
