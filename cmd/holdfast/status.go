package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
)

// redraw is how often -w looks for news at most. It redraws only when there is some.
const redraw = time.Second

func newStatusCommand(env *cli.Env) *cobra.Command {
	var at cluster
	var watch bool
	var view viewOptions
	var format string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "The fleet, from the cluster: pools, nodes, what is wrong",
		Long: `Shows what the hub and the nodes say in the cluster: for each pool how many nodes there are, how many are ready and how many
have the newest plan in force; then what is wrong, and where.

With many pools only those in trouble are listed, unless --all is given. The exit code is 0 whatever the fleet's state, 3 if the
cluster cannot be reached.`,
		Example: `  holdfast status
  holdfast status -w
  holdfast status --pool berlin
  holdfast status -o json | jq '.trouble[].node'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "table" && format != "json" {
				return cli.Usage(fmt.Errorf("-o %q is none of table, json", format))
			}
			cfg, err := at.config()
			if err != nil {
				return err
			}
			source, err := newFleetSource(cfg)
			if err != nil {
				return err
			}
			view.color = env.Color(env.Out)
			show := func(f *fleetView) error {
				if format == "json" {
					enc := json.NewEncoder(env.Out)
					enc.SetIndent("", "  ")
					return enc.Encode(f)
				}
				return render(env.Out, f, view)
			}
			if watch {
				return reached(source.watch(cmd.Context(), redraw, view.pool, func(f *fleetView) error {
					if view.color {
						fmt.Fprint(env.Out, "\x1b[H\x1b[2J") // home, clear
					} else {
						fmt.Fprintf(env.Out, "--- %s\n", time.Now().Format(time.TimeOnly))
					}
					return show(f)
				}, func(err error) { fmt.Fprintf(env.Err, "holdfast status: %v: trying again\n", err) }))
			}
			progress := env.Progress("reading the fleet from %s", cfg.Host)
			f, _, err := source.read(cmd.Context(), view.pool)
			progress.Stop()
			if err != nil {
				return reached(err)
			}
			return show(f)
		},
	}
	f := cmd.Flags()
	at.add(f)
	f.BoolVarP(&watch, "watch", "w", false, "go on showing it as it changes")
	f.BoolVar(&view.all, "all", false, "list every pool and every node in trouble")
	f.StringVar(&view.pool, "pool", "", "only this `pool`")
	f.StringVarP(&format, "output", "o", "table", "table or json")
	return cmd
}
