// Package wire compares edgeagent/proxy/wire with Kubernetes itself: what kube-apiserver's serializers write must be read, and what
// is written must be what they write, for every kind that client-go knows. It is apart from the package so that the package's fuzz
// tests do not carry the types of the whole API.
package wire
