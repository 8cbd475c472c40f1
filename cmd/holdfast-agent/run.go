package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/edgeagent"
)

func newRunCommand(env *cli.Env) *cobra.Command {
	var flags edgeagent.Config
	var file string
	var show bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Be the agent of this node",
		Long: `Runs until SIGTERM. It starts from what it stored: no network and no right clock is needed to go on with the plan in force.
Every field of the configuration file has a flag, and a flag wins over the file.`,
		Example: `  holdfast-agent run
  holdfast-agent run --state /data/holdfast --parts nodepool --log-level debug`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := edgeagent.LoadConfig(file, !cmd.Flags().Changed("config"))
			if err != nil {
				return cli.Usage(err)
			}
			override(cmd, &cfg, flags)
			cfg = cfg.WithDefaults()
			if err := cfg.Validate(); err != nil {
				return cli.Usage(err)
			}
			if show {
				return edgeagent.WriteConfig(env.Out, cfg)
			}
			return runAgent(cmd, env, cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", edgeagent.DefaultConfigFile, "configuration `file`")
	f.StringVar(&flags.State, "state", edgeagent.DefaultState, "state `folder` (state)")
	f.StringSliceVar(&flags.Parts, "parts", edgeagent.Parts(), "`parts` to run (parts)")
	f.StringVar(&flags.Address, "address", edgeagent.DefaultAddress, "`host:port` of health and metrics, or off (address)")
	f.StringVar(&flags.ProxyAddress, "proxy-address", edgeagent.DefaultProxyAddress, "`ip:port` at which the node's components reach the autonomy proxy, or off (proxyAddress)")
	f.StringVar(&flags.PodAddress, "pod-address", edgeagent.DefaultPodAddress, "`ip:port` at which pods reach it, or off (podAddress)")
	f.StringVar(&flags.LogLevel, "log-level", "info", "debug, info, warn or error (logLevel)")
	f.StringVar(&flags.LogFormat, "log-format", "text", "text or json (logFormat)")
	f.BoolVar(&show, "show-config", false, "show the configuration that would be used, as a file, and exit")
	return cmd
}

// override puts the flags that were given over the file's fields.
func override(cmd *cobra.Command, cfg *edgeagent.Config, flags edgeagent.Config) {
	given := cmd.Flags().Changed
	if given("state") {
		cfg.State = flags.State
	}
	if given("parts") {
		cfg.Parts = flags.Parts
	}
	if given("address") {
		cfg.Address = flags.Address
	}
	if given("proxy-address") {
		cfg.ProxyAddress = flags.ProxyAddress
	}
	if given("pod-address") {
		cfg.PodAddress = flags.PodAddress
	}
	if given("log-level") {
		cfg.LogLevel = flags.LogLevel
	}
	if given("log-format") {
		cfg.LogFormat = flags.LogFormat
	}
}

func runAgent(cmd *cobra.Command, env *cli.Env, cfg edgeagent.Config) error {
	agent, err := edgeagent.Open(edgeagent.Options{
		Config:  cfg,
		Version: cli.Version,
		Log:     logger(env.Err, cfg),
		Ready:   func() { notify(env, "READY=1") },
	})
	if err != nil {
		return err
	}
	defer agent.Close()
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	go keepMemory(ctx, memoryEvery)
	go keepThreads(ctx, threadsEvery, processorTime)
	err = agent.Run(cmd.Context())
	notify(env, "STOPPING=1")
	if err != nil {
		return err
	}
	return agent.Close()
}

func logger(w io.Writer, cfg edgeagent.Config) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelInfo // Validate has refused anything else
	}
	o := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// notify tells systemd, if it asked to be told (sd_notify(3)).
func notify(env *cli.Env, state string) {
	path := env.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if strings.HasPrefix(path, "@") { // an abstract socket
		path = "\x00" + path[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err == nil {
		_, err = c.Write([]byte(state))
		c.Close()
	}
	if err != nil {
		fmt.Fprintf(env.Err, "tell systemd %s: %v\n", state, err)
	}
}
