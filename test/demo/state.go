package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// showCluster shows pools and nodes.
func (d *demo) showCluster(ctx context.Context) error {
	_, err := d.run(ctx, d.dir, "kubectl", "get", "nodepools,edgenodes")
	return err
}

// allGood waits until a node has accepted a revision, has brought itself to it, and the cluster knows.
func (d *demo) allGood(ctx context.Context, node, revision string) error {
	claim := fmt.Sprintf("%s is Ready at revision %.12s, and the cluster knows", node, revision)
	return d.eventually(ctx, claim, func(ctx context.Context) error {
		e, err := d.edgeNode(ctx, node)
		if err != nil {
			return err
		}
		ready := e.condition("Ready")
		if ready.Status != "True" || e.Status.Revision != revision || e.Status.PlanDigest != e.Spec.PlanDigest {
			return fmt.Errorf("EdgeNode %s: revision %.12s, Ready %s: %s %s; plan %.14s, the hub has %.14s", node, e.Status.Revision,
				ready.Status, ready.Reason, ready.Message, e.Status.PlanDigest, e.Spec.PlanDigest)
		}
		return nil
	})
}

// edgeNode is what the demo reads of an EdgeNode.
type edgeNode struct {
	Spec   struct{ PlanDigest string }
	Status struct {
		Revision, PlanDigest string
		Conditions           []conditionOf
	}
}

type conditionOf struct{ Type, Status, Reason, Message string }

func (e edgeNode) condition(kind string) conditionOf {
	for _, c := range e.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return conditionOf{Type: kind, Status: "Unknown"}
}

func (d *demo) edgeNode(ctx context.Context, name string) (edgeNode, error) {
	var e edgeNode
	out, err := d.quiet(ctx, d.dir, "kubectl", "get", "edgenode", name, "-o", "json")
	if err != nil {
		return e, err
	}
	return e, json.Unmarshal([]byte(out), &e)
}

// hasLabel waits until both Nodes have a label.
func (d *demo) hasLabel(ctx context.Context, key, value string) error {
	return d.eventually(ctx, fmt.Sprintf("both Nodes have the label %s=%s", key, value), func(ctx context.Context) error {
		for _, node := range nodes {
			if err := d.labelIs(ctx, node, key, value); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *demo) labelIs(ctx context.Context, node, key, value string) error {
	out, err := d.quiet(ctx, d.dir, "kubectl", "get", "node", node, "-o",
		"jsonpath={.metadata.labels."+strings.ReplaceAll(key, ".", `\.`)+"}")
	if err == nil && out != value {
		err = fmt.Errorf("node %s has %s=%q, want %q", node, key, out, value)
	}
	return err
}
