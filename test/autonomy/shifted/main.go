// Program shifted is the agent with a clock that is wrong. The machine's own clock is never changed; certificates and tokens seem old or new
// to this agent alone.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

func main() {
	sandbox.Main(revision.Children())
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run takes the state folder and by how much the clock is ahead, as in "-17520h".
func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: shifted STATE DURATION")
	}
	offset, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	agent, err := edgeagent.Open(edgeagent.Options{
		Config: edgeagent.Config{State: args[0]}, Version: "shifted",
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now: func() time.Time { return time.Now().Add(offset) },
	})
	if err != nil {
		return err
	}
	defer agent.Close()
	return agent.Run(ctx)
}
