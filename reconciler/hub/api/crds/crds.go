// Package crds holds the CustomResourceDefinitions of NodePool and EdgeNode as `holdfast install` applies them. They are
// generated from package v1alpha1: see its go:generate line.
package crds

import "embed"

// Files holds one YAML file for each CustomResourceDefinition.
//
//go:embed *.yaml
var Files embed.FS
