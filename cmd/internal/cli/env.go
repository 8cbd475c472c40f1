// Package cli is what Holdfast's three programs share towards people: exit codes, progress, colour, help, shell
// completion and man pages. A program's main builds its commands and calls Main.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Version is the program's version. The Makefile sets it at link time.
var Version = "v0.0.0-dev"

// Env is what a command may touch of the world. Commands take it instead of the os package, so that tests can run
// them in process.
type Env struct {
	In     io.Reader
	Out    io.Writer
	Err    io.Writer
	Getenv func(string) string
}

// OS gives the process's own environment.
func OS() *Env {
	return &Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}
}

// Color tells whether w takes colour: a terminal, and neither NO_COLOR (https://no-color.org) nor TERM=dumb is set.
func (e *Env) Color(w io.Writer) bool {
	return e.Getenv("NO_COLOR") == "" && e.Getenv("TERM") != "dumb" && isTerminal(w)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Main runs the program: it ends the commands' context at the first SIGINT or SIGTERM and gives the exit code.
func Main(root func(*Env) *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return Run(ctx, OS(), root, os.Args[1:])
}

// Run runs one command line and gives its exit code, having printed the error, if any, to env.Err.
func Run(ctx context.Context, env *Env, root func(*Env) *cobra.Command, args []string) int {
	cmd := root(env)
	prepare(cmd, env)
	cmd.SetArgs(append([]string{}, args...)) // not nil, which means os.Args to cobra
	ran, err := cmd.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	code := ExitCode(err)
	var silent *silentError
	if !errors.As(err, &silent) {
		fmt.Fprintf(env.Err, "%s: %v\n", ran.CommandPath(), err)
	}
	if code == ExitUsage {
		fmt.Fprintf(env.Err, "Run '%s --help' for how to use it.\n", ran.CommandPath())
	}
	return code
}

// prepare gives a root command what all three programs have.
func prepare(root *cobra.Command, env *Env) {
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.SuggestionsMinimumDistance = 2
	root.Version = Version
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage(err) })
	root.AddCommand(newManCommand(root))
	wrapArgs(root)
}

// wrapArgs makes wrong numbers of arguments and unknown commands usage errors.
func wrapArgs(cmd *cobra.Command) {
	check := cmd.Args
	if check == nil {
		check = cobra.ArbitraryArgs
		if cmd.HasSubCommands() {
			check = unknownCommand
		}
	}
	cmd.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return Usage(err)
		}
		return nil
	}
	if cmd.HasSubCommands() && cmd.Run == nil && cmd.RunE == nil {
		cmd.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	for _, sub := range cmd.Commands() {
		wrapArgs(sub)
	}
}

func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	msg := fmt.Sprintf("unknown command %q", args[0])
	for _, s := range c.SuggestionsFor(args[0]) {
		msg += fmt.Sprintf("; did you mean %q?", s)
		break
	}
	return errors.New(msg)
}
