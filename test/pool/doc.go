// Package pool tests the pool as a site has it: nodes in network namespaces on one bridge, with real addresses, multicast and cables that are
// pulled. It needs root; its tests carry the build tag e2e.
package pool
