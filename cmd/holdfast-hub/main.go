// Command holdfast-hub is the controller in the cluster: it follows the fleet's signed Git repository as the nodes do, keeps
// NodePools and EdgeNodes, and sets on Nodes what a node may not set itself.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

func main() {
	sandbox.Main(revision.Children())
	os.Exit(cli.Main(newRootCommand))
}

func newRootCommand(env *cli.Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast-hub",
		Short: "Show the fleet in the cluster, and set what nodes may not set themselves",
		Long: `Holdfast keeps edge nodes at what a signed Git repository says, with the cloud or without it.

This program is the cluster's. It follows the fleet repo with the same code as a node and believes what a node believes. Run
'holdfast install' against the cluster first.`,
		Example: `  holdfast-hub run --repo https://git.example.com/fleet --branch main --anchor 4f0c5b1d2a…`,
	}
	root.AddCommand(newRunCommand(env))
	return root
}
