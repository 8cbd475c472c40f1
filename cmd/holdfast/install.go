package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/reconciler/hub/install"
)

func newInstallCommand(env *cli.Env) *cobra.Command {
	var at cluster
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put CRDs, RBAC and admission policies into the cluster",
		Long: `Applies, server-side, what the cluster needs: the kinds NodePool and EdgeNode, the roles of nodes and hub, and the admission
policies that let a node report of itself and nothing else. Doing it again changes nothing; a newer Holdfast brings it up to date.

The hub itself is deployed with the Helm chart in deploy/chart or as a systemd unit: see docs/hub.md.`,
		Example: `  holdfast install
  holdfast install --dry-run > holdfast.yaml       look first, or let your own GitOps apply it`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			objects, err := install.Objects()
			if err != nil {
				return err
			}
			if dryRun {
				text, err := install.YAML(objects)
				if err != nil {
					return err
				}
				_, err = env.Out.Write(text)
				return err
			}
			cfg, err := at.config()
			if err != nil {
				return err
			}
			dyn, err := dynamic.NewForConfig(cfg)
			if err != nil {
				return cli.Unreachable(fmt.Errorf("no cluster: %w", err))
			}
			progress := env.Progress("installing into %s", cfg.Host)
			defer progress.Stop()
			n := 0
			return reached(install.Apply(cmd.Context(), dyn, objects, func(s install.Step) {
				n++
				progress.Set("installing into %s: %d of %d", cfg.Host, n, len(objects))
				fmt.Fprintf(env.Out, "%s/%s %s\n", strings.ToLower(s.Kind), s.Name, s.Outcome)
			}))
		},
	}
	at.add(cmd.Flags())
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the objects as YAML and touch no cluster")
	return cmd
}
