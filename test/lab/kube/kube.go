//go:build tools

// Package kube pins the Kubernetes version of the lab. It is a module of its own, so that the weight of
// k8s.io/kubernetes stays out of Holdfast's go.mod. The lab builds these programs from the module cache:
// no container registry and no download site but the Go module proxy is needed.
package kube

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubectl"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
