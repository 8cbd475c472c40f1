package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/edgeagent"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

func newStatusCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what is in force on this node, and what is wrong",
		Long: `Asks the running agent, or reads what it stored last. docs/reasons.md explains every reason. The exit code is 0 if the node is
ready, 1 if not.`,
		Example: `  holdfast-agent status
  holdfast-agent status -o json | jq -r .revision`,
		Args: cobra.NoArgs,
	}
	return showing(env, cmd, edgeagent.ReadStatus, condition.Ready)
}

func newSyncCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Fetch now and wait for what comes of it",
		Long: `Has the running agent look at the fleet repo at once, and waits until the node is at what it found. The exit code is 0 if it
is, 1 if the newest revision was rejected or could not be applied, 3 if the fleet repo or the agent could not be reached.`,
		Example: `  holdfast-agent sync && kubectl get node till-1 --show-labels`,
		Args:    cobra.NoArgs,
	}
	return showing(env, cmd, func(ctx context.Context, folder string) (edgeagent.Status, error) {
		p := env.Progress("syncing")
		defer p.Stop()
		s, err := edgeagent.Control{State: folder}.Sync(ctx)
		return s, unreachable(err)
	}, condition.SourceReady, condition.Ready)
}

// showing has a command show the status that ask gives of a state folder, and end with 1 unless these conditions are true.
func showing(env *cli.Env, cmd *cobra.Command, ask func(ctx context.Context, folder string) (edgeagent.Status, error), types ...string) *cobra.Command {
	state := addState(cmd)
	output := cmd.Flags().StringP("output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		show, err := shower(*output)
		if err != nil {
			return err
		}
		folder, err := state()
		if err != nil {
			return err
		}
		s, err := ask(cmd.Context(), folder)
		if err != nil {
			return err
		}
		if err := show(env.Out, s); err != nil {
			return err
		}
		return verdictOn(s, types...)
	}
	return cmd
}

func newReanchorCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "re-anchor COMMIT",
		Short: "Believe the fleet repo from another commit on, as local root",
		Long: `The last resort when history had to be rewritten and no re-anchor record was signed: the node takes COMMIT, which must be on
the branch and of the same fleet, as its new anchor, whatever trust said until now. Get COMMIT out of band. It works with the
agent running or stopped.`,
		Example: `  holdfast-agent re-anchor 4f0c5b1d2a7e9c3b8d6f1e0a5c4b3d2e1f0a9b8c`,
		Args:    cobra.ExactArgs(1),
	}
	state := addState(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		folder, err := state()
		if err != nil {
			return err
		}
		p := env.Progress("re-anchoring at %s", args[0])
		s, err := edgeagent.Control{State: folder}.Reanchor(cmd.Context(), args[0])
		if errors.Is(err, edgeagent.ErrNotRunning) {
			o := edgeagent.Options{Config: edgeagent.Config{State: folder}, Version: cli.Version}
			s, err = edgeagent.ReanchorStopped(cmd.Context(), o, args[0])
		}
		p.Stop()
		if err != nil {
			return err
		}
		fmt.Fprintf(env.Out, "Node %s is anchored at %s; its newest accepted revision is %s.\n", s.Node, s.Anchor, s.Revision)
		return nil
	}
	return cmd
}

// unreachable gives an agent that does not run its exit code.
func unreachable(err error) error {
	if errors.Is(err, edgeagent.ErrNotRunning) {
		return cli.Unreachable(err)
	}
	return err
}

// verdictOn makes an error of the first of these conditions that is not true. It was shown.
func verdictOn(s edgeagent.Status, types ...string) error {
	for _, typ := range types {
		if c, _ := condition.Get(s.Conditions, typ); c.Status != condition.True {
			return cli.Shown(&conditionError{c})
		}
	}
	return nil
}

type conditionError struct{ condition.Condition }

func (e *conditionError) Error() string        { return e.Type + ": " + e.Message }
func (e *conditionError) StableReason() string { return e.Reason }

func shower(output string) (func(io.Writer, edgeagent.Status) error, error) {
	switch output {
	case "json":
		return showJSON, nil
	case "text":
		return showText, nil
	}
	return nil, cli.Usage(fmt.Errorf("--output %q is neither text nor json", output))
}

func showJSON(w io.Writer, s edgeagent.Status) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(s)
}

// shownRejections is how many rejected revisions the text shows.
const shownRejections = 3

func showText(w io.Writer, s edgeagent.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	agent := "runs, " + s.Version
	if !s.Running {
		agent = "does not run; this is what it stored last"
	}
	fmt.Fprintf(t, "Node:\t%s (fleet %s, pool %s)\n", s.Node, s.Fleet, orNone(s.Pool))
	fmt.Fprintf(t, "Agent:\t%s\n", agent)
	fmt.Fprintf(t, "Fleet repo:\t%s, branch %s\n", s.URL, s.Branch)
	fmt.Fprintf(t, "Revision:\t%s of %s\n", s.Revision, s.Made.Format(time.RFC3339))
	switch s.PlanRevision {
	case "":
		fmt.Fprintf(t, "Plan:\t(none yet)\n")
	case s.Revision:
		fmt.Fprintf(t, "Plan:\t%s\n", s.PlanDigest)
	default:
		fmt.Fprintf(t, "Plan:\t%s, still of revision %s\n", s.PlanDigest, s.PlanRevision)
	}
	if s.Problem != "" {
		fmt.Fprintf(t, "Problem:\t%s\n", s.Problem)
	}
	if len(s.Conditions) > 0 {
		fmt.Fprintf(t, "\nCONDITION\tSTATUS\tREASON\tMESSAGE\n")
	}
	for _, c := range s.Conditions {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	if len(s.Rejected) > 0 {
		fmt.Fprintf(t, "\nREJECTED\tAT\tREASON\tMESSAGE\n")
	}
	for _, r := range s.Rejected[:min(len(s.Rejected), shownRejections)] {
		fmt.Fprintf(t, "%.12s\t%s\t%s\t%s\n", r.Tip, r.At.Format(time.RFC3339), r.Reason, r.Message)
	}
	return t.Flush()
}
