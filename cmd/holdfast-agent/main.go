// Command holdfast-agent is the node: it enrols a machine in a fleet, and keeps it at what the fleet's signed Git repository
// says.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/edgeagent"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

func main() {
	sandbox.Main(revision.Children())
	os.Exit(cli.Main(newRootCommand))
}

func newRootCommand(env *cli.Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast-agent",
		Short: "Keep this node at what its fleet's signed Git repository says",
		Long: `Holdfast keeps edge nodes at what a signed Git repository says, with the cloud or without it.

This program is the node's. Enrol the machine once; then the agent follows the fleet repo, believes only revisions whose
signatures the fleet's trust allows, and keeps the last good plan in force whatever happens to network, Git and clock.`,
		Example: `  holdfast-agent enroll --node till-1 --repo https://git.example.com/fleet --branch main \
      --anchor 4f0c5b1d2a… --kubeconfig /etc/kubernetes/kubelet.conf     make this machine a node of the fleet
  holdfast-agent run                                                     be the agent (systemd does this)
  holdfast-agent status                                                  what is in force, and what is wrong
  holdfast-agent sync                                                    fetch now and wait for what comes of it`,
	}
	for _, newCommand := range []func(*cli.Env) *cobra.Command{
		newEnrollCommand, newUnenrollCommand, newRunCommand, newStatusCommand, newSyncCommand, newSelftestCommand, newReanchorCommand, newProxyCommand,
	} {
		root.AddCommand(newCommand(env))
	}
	return root
}

// addState adds the flag that every command has, and gives what finds the folder: the flag's, else that of the
// configuration file, else the default.
func addState(cmd *cobra.Command) func() (string, error) {
	state := cmd.Flags().String("state", edgeagent.DefaultState, "state `folder`; the configuration file's if it names one")
	return func() (string, error) {
		if cmd.Flags().Changed("state") {
			return *state, nil
		}
		cfg, err := edgeagent.LoadConfig(edgeagent.DefaultConfigFile, true)
		return cfg.WithDefaults().State, err
	}
}
