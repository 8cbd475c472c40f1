package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	git "github.com/go-git/go-git/v5"
	gitconfig "github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/policy/signer"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// signedRepo is a repository whose signatures and notes are read and written.
type signedRepo struct {
	dir     string
	repo    *source.Repo
	objects verify.Objects
	// notes is the commit that the notes' ref points to, or "".
	notes string
}

func repoFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "repo", ".", "the Git repository, or a folder in it")
}

// openSigned opens the repository that dir is in. notes names the ref of the notes; it need not be there.
func openSigned(env *cli.Env, dir, notes string) (*signedRepo, error) {
	repo, err := source.OpenWorkTree(dir, env.Getenv)
	if err != nil {
		return nil, fmt.Errorf("open the Git repository of %s: %w", dir, err)
	}
	g := &signedRepo{dir: dir, repo: repo, objects: revision.Objects(repo)}
	if g.notes, err = repo.Resolve(notes); err != nil {
		if notes != source.NotesRef {
			g.close()
			return nil, fmt.Errorf("read notes: %w", err)
		}
		g.notes = "" // most repositories have none
	}
	return g, nil
}

func (g *signedRepo) close() { g.repo.Close() }

// firstParent gives a commit's first parent, or "".
func (g *signedRepo) firstParent(id string) (string, error) {
	raw, err := g.commit(id)
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(raw), "\n")
	line, _, _ := strings.Cut(rest, "\n")
	parent, _ := strings.CutPrefix(line, "parent ")
	if parent == line {
		return "", nil
	}
	return parent, nil
}

func (g *signedRepo) commit(id string) ([]byte, error) {
	kind, raw, err := g.objects.Object(id)
	if err == nil && kind != "commit" {
		err = fmt.Errorf("%s is a %s, not a commit", id, kind)
	}
	return raw, err
}

// addNote adds a line to the note about an object and moves refs/notes/holdfast.
func (g *signedRepo) addNote(id, line string) error {
	repo, err := git.PlainOpenWithOptions(g.dir, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if errors.Is(err, git.ErrRepositoryNotExists) { // a bare one
		repo, err = git.PlainOpen(g.dir)
	}
	if err != nil {
		return fmt.Errorf("open %s for writing: %w", g.dir, err)
	}
	next, err := verify.AppendToNote(g.objects, objectWriter{repo}, verify.NoteChange{
		Notes: g.notes, ID: id, Lines: []string{line}, Who: author(repo), When: time.Now(),
	})
	if err != nil {
		return err
	}
	if next == g.notes {
		return nil
	}
	var old *plumbing.Reference
	if g.notes != "" {
		old = plumbing.NewHashReference(source.NotesRef, plumbing.NewHash(g.notes))
	}
	if err := repo.Storer.CheckAndSetReference(plumbing.NewHashReference(source.NotesRef, plumbing.NewHash(next)), old); err != nil {
		return fmt.Errorf("move %s (did someone else write notes meanwhile? try again): %w", source.NotesRef, err)
	}
	g.notes = next
	return nil
}

// author is who Git says the person is.
func author(repo *git.Repository) string {
	name, mail := "holdfast", "holdfast@localhost"
	if c, err := repo.ConfigScoped(gitconfig.GlobalScope); err == nil && c.User.Name != "" && c.User.Email != "" {
		name, mail = c.User.Name, c.User.Email
	}
	plain := strings.NewReplacer("<", "", ">", "", "\n", "")
	return plain.Replace(name) + " <" + plain.Replace(mail) + ">"
}

// objectWriter stores objects as Git does.
type objectWriter struct{ repo *git.Repository }

func (w objectWriter) Write(kind string, raw []byte) (string, error) {
	typ, err := plumbing.ParseObjectType(kind)
	if err != nil {
		return "", err
	}
	o := w.repo.Storer.NewEncodedObject()
	o.SetType(typ)
	out, err := o.Writer()
	if err != nil {
		return "", err
	}
	if _, err := out.Write(raw); err != nil {
		return "", err
	}
	if err := out.Close(); err != nil {
		return "", err
	}
	id, err := w.repo.Storer.SetEncodedObject(o)
	if err != nil {
		return "", fmt.Errorf("write a %s: %w", kind, err)
	}
	return id.String(), nil
}

func keyFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "key", "", "an OpenSSH private key, or a .pub whose private key ssh-agent holds")
	if err := cmd.MarkFlagRequired("key"); err != nil {
		panic(err) // the flag is defined one line above
	}
}

// openKey finds the key and asks for its passphrase if it has one.
func openKey(env *cli.Env, file string) (*signer.Signer, error) {
	return signer.Open(signer.Config{File: file, AgentSocket: env.Getenv("SSH_AUTH_SOCK"), Passphrase: askPassphrase})
}

// askPassphrase asks on the terminal, wherever standard input comes from.
func askPassphrase(file string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.New("there is no terminal to ask on: ssh-add the key and give its .pub file")
	}
	defer tty.Close()
	fmt.Fprintf(tty, "Passphrase of %s: ", file)
	secret, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	return secret, err
}

func fingerprint(s ssh.Signer) string { return ssh.FingerprintSHA256(s.PublicKey()) }
