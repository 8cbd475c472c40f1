// Command holdfast is for people and for CI: it makes fleet repos, checks them before a merge, shows what a change
// comes to, and looks at the fleet.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

func main() {
	sandbox.Main(fleet.Children())
	os.Exit(cli.Main(newRootCommand))
}

func newRootCommand(env *cli.Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "Declare an edge fleet in Git, check it, and look at it",
		Long: `Holdfast keeps edge nodes at what a signed Git repository says, with the cloud or without it.

This program is for people and for CI: it makes a fleet repo, checks it before a merge, shows what a change
comes to and who signed it, and looks at the fleet.`,
		Example: `  holdfast init fleet --signer me.pub --signer you.pub   make a fleet repo
  holdfast vet                                           check it
  holdfast diff origin/main HEAD                         what a change comes to
  holdfast verify origin/main..HEAD                      who signed it, and the verdict
  holdfast status -w                                     the fleet, from the cluster`,
	}
	for _, newCommand := range commands {
		root.AddCommand(newCommand(env))
	}
	return root
}

// commands are the program's commands, each in a file of its own.
var commands = []func(*cli.Env) *cobra.Command{
	newInitCommand,
	newVetCommand,
	newPlanCommand,
	newDiffCommand,
	newInstallCommand,
	newStatusCommand,
	newVerifyCommand,
	newCountersignCommand,
	newReanchorCommand,
}
