// Command lab builds, starts and takes down the lab by hand; tests and the demo use package lab itself.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/holdfast-dev/holdfast/test/lab"
)

const usage = `usage:
  lab build                              build what is missing of Kubernetes (about 15 minutes the first time)
  lab up [-name lab] [-nodes a,b] [-registered c,d]
                                         start a lab that stays: nodes a and b with a kubelet, c and d as objects alone
  lab down [NAME ...]                    take labs down; without a name, those whose owner is dead
  lab list                               name the labs that exist
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run gives the exit code: 0 fine, 1 it did not work, 2 usage.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	var err error
	switch command, args := args[0], args[1:]; command {
	case "build":
		err = lab.Build(ctx, stderr)
	case "up":
		return up(ctx, args, stdout, stderr)
	case "down":
		err = down(args, stderr)
	case "list":
		err = list(stdout)
	default:
		fmt.Fprintf(stderr, "lab: unknown command %q\n%s", command, usage)
		return 2
	}
	if err != nil {
		fmt.Fprintf(stderr, "lab: %v\n", err)
		return 1
	}
	return 0
}

func up(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("lab up", flag.ContinueOnError)
	flags.SetOutput(stderr)
	name := flags.String("name", "lab", "the lab's name")
	nodes := flags.String("nodes", "", "nodes with a kubelet, separated by commas")
	registered := flags.String("registered", "", "nodes that are objects alone, separated by commas")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	if err := start(ctx, *name, split(*nodes), split(*registered), stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "lab: %v\n", err)
		return 1
	}
	return 0
}

func start(ctx context.Context, name string, real, registered []string, stdout, stderr io.Writer) error {
	l, err := lab.Start(ctx, lab.Options{Name: name, Keep: true, Controllers: len(real) > 0, Log: stderr})
	if err != nil {
		return err
	}
	for i, node := range append(real, registered...) {
		if _, err := l.AddNode(ctx, lab.NodeOptions{Name: node, Kubelet: i < len(real)}); err != nil {
			return err
		}
	}
	kubectl, err := lab.Program("kubectl")
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "export KUBECONFIG=%s\nalias kubectl=%s\n# take it down with: go run ./test/lab/cmd/lab down %s\n",
		l.AdminKubeconfig(), kubectl, name)
	return nil
}

func down(names []string, stderr io.Writer) error {
	if len(names) == 0 {
		return lab.Sweep(stderr)
	}
	for _, name := range names {
		if err := lab.Down(name); err != nil {
			return err
		}
	}
	return nil
}

func list(stdout io.Writer) error {
	names, err := lab.Names()
	for _, name := range names {
		fmt.Fprintln(stdout, name)
	}
	return err
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
