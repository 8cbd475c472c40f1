//go:build tools

// Package command pins the version of the cosign command that tests sign images with. It is a module of its own, so that the
// weight of cosign stays out of Holdfast's go.mod. It is built from the module cache: no download site but the Go module proxy
// is needed.
package command

import _ "github.com/sigstore/cosign/v2/cmd/cosign"
