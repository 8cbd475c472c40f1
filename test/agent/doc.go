// Package agent tests and measures the agent with a real API server, a real Git server and real signatures. Everything in it
// carries a build tag: e2e or bench.
package agent
