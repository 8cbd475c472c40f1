package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

func newReanchorCommand(env *cli.Env) *cobra.Command {
	var dir, key string
	cmd := &cobra.Command{
		Use:   "re-anchor FROM TO --key FILE",
		Short: "Permit history to be rewritten, once",
		Long: `Re-anchor signs a record that lets nodes whose newest accepted revision is FROM go on at TO, though TO does not descend
from it, and puts the record into refs/notes/holdfast. It takes as many root principals as the threshold of role root
in the trust/ at FROM, each of whom runs this command.

TO is taken at its word from then on: look at all of it. Nodes at other revisions than FROM need a record of their own;
"kubectl get nodepools" shows which revisions are in use.`,
		Example: `  holdfast re-anchor 3f2a91c0… main --key ~/.ssh/id_ed25519`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runReanchor(cmd.Context(), env, dir, args[0], args[1], key)
		},
	}
	repoFlag(cmd, &dir)
	keyFlag(cmd, &key)
	return cmd
}

func runReanchor(ctx context.Context, env *cli.Env, dir, fromRev, toRev, keyFile string) error {
	g, err := openSigned(env, dir, source.NotesRef)
	if err != nil {
		return err
	}
	defer g.close()
	from, err := g.repo.Resolve(fromRev)
	if err != nil {
		return fmt.Errorf("find FROM (fetch it by its id if no branch holds it any more): %w", err)
	}
	to, err := g.repo.Resolve(toRev)
	if err != nil {
		return err
	}
	state, err := verify.Enrol(g.objects, from)
	if err != nil {
		return fmt.Errorf("trust in force at %s: %w", from[:12], err)
	}
	if err := g.needsRecord(ctx, state, to); err != nil {
		return err
	}
	key, err := openKey(env, keyFile)
	if err != nil {
		return err
	}
	defer key.Close()
	who, err := rootPrincipal(state, key)
	if err != nil {
		return err
	}
	line, err := verify.Reanchor(from, to, state.Fleet, key)
	if err != nil {
		return err
	}
	if err := g.addNote(from, line); err != nil {
		return err
	}
	fmt.Fprintf(env.Out, "signed as %s (%s): nodes of fleet %s at %s may go on at %s\n", who, fingerprint(key), state.Fleet, from[:12], to[:12])
	return g.printRecord(env, state, to)
}

// needsRecord refuses what no record is needed for, and a target that nodes would refuse all the same.
func (g *signedRepo) needsRecord(ctx context.Context, state verify.State, to string) error {
	target, err := verify.Enrol(g.objects, to)
	if err != nil {
		return fmt.Errorf("TO %s: %w", to[:12], err)
	}
	if target.Fleet != state.Fleet {
		return fmt.Errorf("TO %s is of fleet %q, FROM of fleet %q: a fleet's id never changes", to[:12], target.Fleet, state.Fleet)
	}
	v, err := verify.Verify(ctx, g.objects, verify.Request{State: state, Tip: to})
	if err != nil {
		return err
	}
	if v.Reason != verify.NotDescendant {
		return fmt.Errorf("commit %s descends from %s: no record is needed, nodes judge the commits between them (holdfast verify %s..%s)", to[:12], state.Accepted[:12], state.Accepted[:12], to[:12])
	}
	return nil
}

// rootPrincipal gives who holds the key, if a root principal does.
func rootPrincipal(state verify.State, key ssh.Signer) (string, error) {
	t, err := trust.Parse(state.Trust)
	if err != nil {
		return "", err
	}
	who, err := t.SSHPrincipal(key.PublicKey(), trust.NamespaceReanchor, time.Unix(state.Floor, 0))
	if err != nil {
		return "", fmt.Errorf("by the trust/ at %s: %w", state.Accepted[:12], err)
	}
	if root := t.Policy.Roles[trust.RootRole].Principals; !slices.Contains(root, who) {
		return "", fmt.Errorf("%s is not of role %s (%s) at %s", who, trust.RootRole, strings.Join(root, ", "), state.Accepted[:12])
	}
	return who, nil
}

// printRecord says how many signatures the record has.
func (g *signedRepo) printRecord(env *cli.Env, state verify.State, to string) error {
	t, err := trust.Parse(state.Trust)
	if err != nil {
		return err
	}
	note, _, err := verify.ReadNote(g.objects, g.notes, state.Accepted, verify.Limits{})
	if err != nil {
		return err
	}
	signers, err := verify.ReanchorSigners(state, note)
	if err != nil {
		return err
	}
	have, want := signers[to], t.Policy.Roles[trust.RootRole].Threshold
	if len(have) == 0 {
		return errors.New("the record was written and cannot be read back")
	}
	fmt.Fprintf(env.Out, "%d of %d signatures: %s\n", len(have), want, strings.Join(have, ", "))
	if len(have) < want {
		fmt.Fprintf(env.Out, "another root principal runs: holdfast re-anchor %s %s --key FILE\n", state.Accepted, to)
	}
	_, err = fmt.Fprintf(env.Out, "push the note:\n  git push origin %s\n", source.NotesRef)
	return err
}
