package lab

import "context"

func (n *Node) startKubelet(context.Context, NodeOptions) error { return nil }
