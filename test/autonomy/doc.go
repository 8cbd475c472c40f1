// Package autonomy tests the promise of the autonomy proxy against the real parts: kube-apiserver, kubelet with containerd, kube-proxy
// and client-go's informers talk through a real agent, and the link is cut, the power goes, and time passes.
package autonomy
