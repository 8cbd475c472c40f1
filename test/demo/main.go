// Command demo shows Holdfast on one machine, and checks what it shows: a real Kubernetes, a Git server with a signed fleet repo,
// the hub, and agents on two nodes; then a signed push, an unsigned one, and a replay; then a node that is cut off, loses power, and
// comes back whole. It drives the real programs as a person would, and ends with 1 if a step does not show what it claims, so it is the end-to-end test as well.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/holdfast-dev/holdfast/test/lab"
)

// labName is the demo's lab; `lab down demo` ends one that was kept.
const labName = "demo"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) == 4 && os.Args[1] == gitServerArg {
		exit(serveGit(ctx, os.Args[2], os.Args[3]))
	}
	keep := flag.Bool("keep", false, "leave everything running and print how to look around")
	flag.Parse()
	exit(run(ctx, *keep))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: FAILED: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// demo is the story with what it plays on.
type demo struct {
	*story
	lab *lab.Lab
	// dir holds what people and nodes have: keys, the work tree, the Git server's folder, the agents' state.
	dir string
	// url is where people push the fleet repo and nodes fetch it, lineURL where the server does, over its line. anchor is its first commit.
	url, lineURL, anchor string
	// server is the node that is behind the proxy, link its line, which is cut at cutAt.
	server *lab.Node
	link   *lab.Link
	cutAt  time.Time
	// before is what the server had before: its kubelet's kubeconfig, its pods.
	before struct {
		kubeletConf []byte
		pods        map[string]pod
	}
}

// run plays the story and takes everything down, unless it is to be kept.
func run(ctx context.Context, keep bool) error {
	bin, err := programs()
	if err != nil {
		return err
	}
	if err := os.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH")); err != nil {
		return err
	}
	if err := lab.Down(labName); err != nil { // one that was kept before
		return err
	}
	d := &demo{story: newStory(os.Stdout)}
	d.say("Holdfast, from a signed push to a node that comes back without its cloud. Everything runs on this machine and nothing is faked:")
	d.say("Kubernetes %s with etcd, kubelet and containerd; git; ssh-keygen; the three programs of Holdfast.", lab.KubernetesVersion)
	err = d.play(ctx, keep)
	if err != nil && d.lab != nil {
		d.showLogs()
	}
	if keep && err == nil {
		return d.lookAround()
	}
	if d.lab != nil {
		err = errors.Join(err, d.lab.Close())
	}
	if err == nil {
		fmt.Fprintf(d.out, "\n%s in %s. Everything was taken down; `make demo KEEP=1` leaves it running.\n",
			d.paint("1;32", fmt.Sprintf("All %d steps showed what they claim", d.steps)), time.Since(d.began).Round(time.Second))
	}
	return err
}

// play is the story.
func (d *demo) play(ctx context.Context, keep bool) error {
	steps := []func(context.Context) error{
		func(ctx context.Context) error { return d.startCluster(ctx, keep) },
		d.makeFleet,
		d.startHub,
		d.enrollNodes,
		d.behindProxy,
		d.signedPush,
		d.otherTeamsPush,
		d.brokenPush,
		d.unsignedPush,
		d.stolenServer,
		d.replay,
		d.deployShop,
		d.cutLine,
		d.powerCut,
		d.lineIsBack,
		d.end,
	}
	if !keep { // what is left running is left behind the proxy
		steps = append(steps, d.takeOut)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// programs gives the folder of the built programs.
func programs() (string, error) {
	bin, err := filepath.Abs("bin")
	if err != nil {
		return "", err
	}
	for _, name := range []string{"holdfast", "holdfast-agent", "holdfast-hub", "cue"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return "", fmt.Errorf("%w: run `make demo` from the top folder, which builds it", err)
		}
	}
	return bin, nil
}
