package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/edgeagent"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/selftest"
)

func newSelftestCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "selftest",
		Short: "Ask whether this node would come back without the cloud",
		Long: `Has the running agent replay what kubelet and kube-proxy ask when the node boots, against what the autonomy proxy has cached right now,
and lists what would be missing, pod by pod. The node's condition Autonomous is the same. The exit code is 0 if nothing is missing, 1 if
something is, 3 if no agent runs.`,
		Example: `  holdfast-agent selftest
  holdfast-agent selftest -o json | jq '.missing'`,
		Args: cobra.NoArgs,
	}
	state := addState(cmd)
	output := cmd.Flags().StringP("output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *output != "text" && *output != "json" {
			return cli.Usage(fmt.Errorf("there is no output %q: choose text or json", *output))
		}
		folder, err := state()
		if err != nil {
			return err
		}
		result, err := edgeagent.Control{State: folder}.Selftest(cmd.Context())
		if err != nil {
			return unreachable(err)
		}
		if err := showSelftest(env.Out, *output, result); err != nil {
			return err
		}
		if !result.Complete {
			return cli.Shown(fmt.Errorf("%d things are missing", len(result.Missing)))
		}
		return nil
	}
	return cmd
}

func showSelftest(w io.Writer, output string, r selftest.Result) error {
	if output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	if r.Complete {
		_, err := fmt.Fprintf(w, "this node would come back with its %d pods: all %d requests of a boot would be answered\n", r.Pods, r.Asked)
		return err
	}
	fmt.Fprintf(w, "this node would not come back whole: of %d requests of a boot with %d pods, these would not be answered\n\n", r.Asked, r.Pods)
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "POD\tKIND\tNAME\tWHY")
	for _, m := range r.Missing {
		pod := m.Pod
		if pod == "" {
			pod = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", pod, m.Kind, m.Name, m.Why)
	}
	return table.Flush()
}
