//go:build tools

// Package h2spec pins the program that tests HTTP/2 servers against their specification. It is a module of its own, so that what it
// needs stays out of Holdfast's go.mod. The test in edgeagent/proxy/http2 builds it from the module cache.
package h2spec

import _ "github.com/summerwind/h2spec/cmd/h2spec"
