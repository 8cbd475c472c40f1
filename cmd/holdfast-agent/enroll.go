package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/edgeagent"
	"github.com/holdfast-dev/holdfast/edgeagent/store"
)

func newEnrollCommand(env *cli.Env) *cobra.Command {
	var o edgeagent.EnrollOptions
	var behind bool
	cmd := &cobra.Command{
		Use:   "enroll --node NODE --repo URL --branch BRANCH --anchor COMMIT",
		Short: "Make this machine a node of a fleet",
		Long: `Fetches the fleet repo, reads fleet and trust at the anchor, verifies the branch from there, and stores it all. If anything
is wrong nothing is left behind.

The anchor is a commit id that somebody you trust gave you by another way than the Git server: everything this node will
ever believe descends from it. Without --kubeconfig the node is standalone: whatever needs no API server works.

With --kubeconfig the kubelet is put behind the autonomy proxy: its kubeconfig is made to lead there, and it no longer renews its
certificate itself. What was there stays beside each file; unenroll, or proxy detach, puts it back. --proxy=false leaves the kubelet
as it is.

Enrolling again with the same node and anchor renews credentials and addresses, and --pool for a node that has no plan yet. It touches
neither trust nor plan.`,
		Example: `  holdfast-agent enroll --node till-1 --repo https://git.example.com/fleet --branch main \
      --anchor 4f0c5b1d2a7e9c3b8d6f1e0a5c4b3d2e1f0a9b8c --kubeconfig /etc/kubernetes/kubelet.conf
  holdfast-agent enroll --node press-7 --pool factory --repo git@git.example.com:fleet --branch main \
      --anchor 4f0c5b1d2a7e9c3b8d6f1e0a5c4b3d2e1f0a9b8c --repo-auth deploy-key.yaml`,
		Args: cobra.NoArgs,
	}
	state := addState(cmd)
	options := addKubelet(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if o.State, err = state(); err != nil {
			return err
		}
		if behind && o.Kubeconfig != "" {
			proxy, err := options(o.Kubeconfig)
			if err != nil {
				return err
			}
			o.Proxy = &proxy
		}
		p := env.Progress("enrolling %s", o.Node)
		o.Progress = p.Set
		o.Version = cli.Version
		result, err := edgeagent.Enroll(cmd.Context(), o)
		p.Stop()
		if err != nil {
			return err
		}
		printEnrolled(env, result)
		return nil
	}
	f := cmd.Flags()
	f.StringVar(&o.Node, "node", "", "`name` of the Kubernetes node")
	f.StringVar(&o.Pool, "pool", "", "`name` of its pool; found in the fleet repo if not given")
	f.StringVar(&o.URL, "repo", "", "`URL` of the fleet repo: https, ssh or user@host:path")
	f.StringVar(&o.Branch, "branch", "", "`branch` to follow")
	f.StringVar(&o.Anchor, "anchor", "", "`commit` to start believing from, got out of band")
	f.StringVar(&o.RepoAuth, "repo-auth", "", "`file` with the credentials of the Git server (YAML: username, password, bearerToken, identity, identityPassphrase, knownHosts, ca, proxy)")
	f.StringVar(&o.CA, "ca", "", "`file` with the certificates of the Git server's CA")
	f.StringVar(&o.Kubeconfig, "kubeconfig", "", "the kubelet's kubeconfig `file`; without it the node is standalone")
	f.BoolVar(&behind, "proxy", true, "with --kubeconfig: put the kubelet behind the autonomy proxy")
	for _, name := range []string{"node", "repo", "branch", "anchor"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // a flag that is not there
		}
	}
	cmd.PreRunE = requiredAsUsage(cmd)
	return cmd
}

// requiredAsUsage makes a required flag that is missing a usage error.
func requiredAsUsage(cmd *cobra.Command) func(*cobra.Command, []string) error {
	return func(*cobra.Command, []string) error {
		if err := cmd.ValidateRequiredFlags(); err != nil {
			return cli.Usage(err)
		}
		return nil
	}
}

func printEnrolled(env *cli.Env, r edgeagent.Enrolled) {
	verb := "enrolled"
	if r.Already {
		verb = "was enrolled already: credentials and addresses are up to date"
	}
	fmt.Fprintf(env.Out, "Node %s %s.\n", r.Node, verb)
	fmt.Fprintf(env.Out, "  fleet     %s, pool %s\n", r.Fleet, orNone(r.Pool))
	fmt.Fprintf(env.Out, "  anchor    %s\n", r.Anchor)
	fmt.Fprintf(env.Out, "  revision  %s\n", r.Revision)
	if r.Standalone {
		fmt.Fprintln(env.Out, "  no kubeconfig: the node is standalone")
	}
	if r.Attached != nil {
		fmt.Fprint(env.Out, "  ")
		printAttached(env, *r.Attached)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(env.Err, "warning: %s\n", w)
	}
	if !r.Already {
		fmt.Fprintln(env.Out, "Start the agent with: systemctl enable --now holdfast-agent")
	}
	if r.Attached != nil {
		fmt.Fprintln(env.Out, "Then restart the kubelet: systemctl restart kubelet")
	}
}

func newUnenrollCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unenroll",
		Short: "Take this machine out of its fleet",
		Long: `Removes the labels and annotations that the agent set on the Node, if the API server can be reached, puts the kubelet's files
back, and removes everything the agent stored. Stop the agent first.`,
		Example: `  systemctl disable --now holdfast-agent && holdfast-agent unenroll`,
		Args:    cobra.NoArgs,
	}
	state := addState(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		folder, err := state()
		if err != nil {
			return err
		}
		p := env.Progress("removing what the agent set")
		r, err := edgeagent.Unenroll(cmd.Context(), edgeagent.UnenrollOptions{State: folder, Version: cli.Version})
		p.Stop()
		if errors.Is(err, store.ErrNotEnrolled) {
			fmt.Fprintf(env.Out, "This machine is not enrolled in %s: nothing to do.\n", folder)
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case r.LeftBehind != nil:
			fmt.Fprintf(env.Err, "warning: what the agent set on Node %s was left there: %v\n", orNone(r.Node), r.LeftBehind)
		case r.Unmarked:
			fmt.Fprintf(env.Out, "Removed what the agent set on Node %s.\n", r.Node)
		}
		if r.Detached {
			printDetached(env, r.Notes)
		}
		fmt.Fprintf(env.Out, "Removed the state of node %s from %s.\n", orNone(r.Node), folder)
		return nil
	}
	return cmd
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
