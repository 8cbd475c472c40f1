package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/edgeagent"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/kubelet"
)

// defaultKubeconfig is where kubeadm puts the kubelet's kubeconfig.
const defaultKubeconfig = "/etc/kubernetes/kubelet.conf"

func newProxyCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Put this node's kubelet behind the autonomy proxy, or take it out",
		Long: `Behind the autonomy proxy the node goes on without its API server, also through a reboot. enroll --kubeconfig puts the kubelet
behind it; these commands are for nodes that were enrolled without, and to leave.`,
		Example: `  holdfast-agent proxy check`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAttachCommand(env), newDetachCommand(env), newCheckCommand(env), newAddressCommand())
	return cmd
}

// addKubelet adds the flags that say where the kubelet's files are and where the proxy is, and gives what reads them.
func addKubelet(cmd *cobra.Command) func(kubeconfig string) (edgeagent.ProxyOptions, error) {
	var files kubelet.Files
	var address string
	f := cmd.Flags()
	f.StringVar(&files.Config, "kubelet-config", "", "the kubelet's configuration `file`; "+kubelet.DefaultConfig+" if it is there")
	f.StringVar(&files.CertDir, "kubelet-cert-dir", kubelet.DefaultCertDir, "the kubelet's `folder` of certificates")
	f.StringVar(&address, "proxy-address", "", "`ip:port` of the proxy; the configuration file's, or "+edgeagent.DefaultProxyAddress)
	return func(kubeconfig string) (edgeagent.ProxyOptions, error) {
		cfg, err := edgeagent.LoadConfig(edgeagent.DefaultConfigFile, true)
		if err != nil {
			return edgeagent.ProxyOptions{}, cli.Usage(err)
		}
		if address != "" {
			cfg.ProxyAddress = address
		}
		cfg = cfg.WithDefaults()
		if err := cfg.Validate(); err != nil {
			return edgeagent.ProxyOptions{}, cli.Usage(err)
		}
		if cfg.ProxyAddress == edgeagent.NoAddress {
			return edgeagent.ProxyOptions{}, cli.Usage(fmt.Errorf("proxyAddress is %q: there is no proxy to put the kubelet behind", edgeagent.NoAddress))
		}
		files.Kubeconfig = kubeconfig
		return edgeagent.ProxyOptions{Kubelet: files, Address: cfg.ProxyAddress}, nil
	}
}

func newAttachCommand(env *cli.Env) *cobra.Command {
	var kubeconfig string
	cmd := &cobra.Command{
		Use:   "attach",
		Short: "Have the kubelet talk to the API server through the proxy",
		Long: `The kubelet's kubeconfig is made to name the proxy, with a certificate of this node alone; the kubelet no longer renews its
certificate itself, because the agent does; and the certificate it renewed last is moved aside. What was there stays beside
each file, as *.before-holdfast, and detach puts it back.

Stop the agent first. Done again it brings the files up to date, for example after kubeadm wrote them anew.`,
		Example: `  systemctl stop holdfast-agent
  holdfast-agent proxy attach
  systemctl start holdfast-agent && systemctl restart kubelet`,
		Args: cobra.NoArgs,
	}
	state := addState(cmd)
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", defaultKubeconfig, "the kubelet's kubeconfig `file`")
	options := addKubelet(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		folder, err := state()
		if err != nil {
			return err
		}
		o, err := options(kubeconfig)
		if err != nil {
			return err
		}
		a, err := edgeagent.Attach(folder, o)
		if err != nil {
			return err
		}
		printAttached(env, a)
		for _, w := range a.Warnings {
			fmt.Fprintf(env.Err, "warning: %s\n", w)
		}
		fmt.Fprintln(env.Out, "Start the agent, then the kubelet: systemctl restart holdfast-agent && systemctl restart kubelet")
		return nil
	}
	return cmd
}

func printAttached(env *cli.Env, a edgeagent.Attached) {
	fmt.Fprintf(env.Out, "The kubelet of node %s is behind the proxy: %s leads there.\n", a.Node, a.Kubeconfig)
}

func newDetachCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "detach",
		Short: "Have the kubelet talk to the API server itself again",
		Long: `Puts the kubelet's files back as they were. If the agent renewed the node's certificate meanwhile the kubelet gets the newer
one, where it would have put it itself. Stop the agent first.`,
		Example: `  systemctl stop holdfast-agent
  holdfast-agent proxy detach
  systemctl restart kubelet && systemctl start holdfast-agent`,
		Args: cobra.NoArgs,
	}
	state := addState(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		folder, err := state()
		if err != nil {
			return err
		}
		notes, err := edgeagent.Detach(folder, edgeagent.ProxyOptions{})
		if errors.Is(err, kubelet.ErrNotAttached) {
			fmt.Fprintln(env.Out, "The kubelet is not behind the proxy: nothing to do.")
			return nil
		}
		if err != nil {
			return err
		}
		printDetached(env, notes)
		return nil
	}
	return cmd
}

func printDetached(env *cli.Env, notes []string) {
	fmt.Fprintln(env.Out, "The kubelet's files are as they were before. Restart it: systemctl restart kubelet")
	for _, n := range notes {
		fmt.Fprintf(env.Err, "note: %s\n", n)
	}
}

func newCheckCommand(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether the kubelet is behind the proxy, and whether the proxy answers it",
		Long: `Looks at the kubelet's files, and asks the proxy for the Node the way the kubelet does. The exit code is 0 if all is well, 1 if
not, 3 if the proxy does not answer.`,
		Example: `  holdfast-agent proxy check && systemctl restart kubelet`,
		Args:    cobra.NoArgs,
	}
	state := addState(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		folder, err := state()
		if err != nil {
			return err
		}
		kubeconfig, problems, err := edgeagent.CheckAttached(folder)
		if err != nil {
			return err
		}
		for _, p := range problems {
			fmt.Fprintf(env.Err, "problem: %s\n", p)
		}
		if len(problems) > 0 {
			return errors.New("run holdfast-agent proxy attach with the agent stopped, then start the agent and restart the kubelet")
		}
		from, err := edgeagent.AskProxy(cmd.Context(), folder, cli.Version)
		if err != nil {
			return cli.Unreachable(err)
		}
		fmt.Fprintf(env.Out, "%s leads to the proxy, which answers the kubelet%s.\n", kubeconfig, from)
		return nil
	}
	return cmd
}

func newAddressCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "address",
		Short: "Put the address at which pods reach the proxy on this host",
		Long: `Puts podAddress on the loopback interface if it is a link-local one and no interface has it. systemd does this before it starts the
agent, which can then do without the capability for it. detach and unenroll take the address off.`,
		Example: `  holdfast-agent proxy address`,
		Args:    cobra.NoArgs,
	}
	state := addState(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		cfg, err := edgeagent.LoadConfig(edgeagent.DefaultConfigFile, true)
		if err != nil {
			return cli.Usage(err)
		}
		cfg = cfg.WithDefaults()
		if cfg.State, err = state(); err != nil {
			return err
		}
		return edgeagent.EnsurePodAddress(cfg)
	}
	return cmd
}
