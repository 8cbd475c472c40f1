package verifytest

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// Commit describes a commit. Its zero value is an unsigned, empty commit on top of the branch.
type Commit struct {
	// Files are set to their contents, Symlinks to their targets, Submodules to commit ids; Remove deletes files and
	// folders. All else stays as the first parent has it.
	Files      Files
	Symlinks   Files
	Submodules Files
	Remove     []string
	// Tree, if set, is the commit's tree, whatever the fields above say.
	Tree string
	// By signs, with an SSH signature as `git commit -S` makes it. Nil leaves the commit unsigned.
	By ssh.Signer
	// Parents replace the default, which is the branch's tip. The first decides what the tree starts from.
	Parents []string
	// Merge adds second parents.
	Merge []string
	// Date is the committer's date; zero means a minute after the newest commit that Commit made.
	Date time.Time
	// Message defaults to "change".
	Message string
	// Headers are put behind the committer as they are: "gpgsig …\n".
	Headers string
	// Detached leaves the branch where it is.
	Detached bool
}

// Push makes a commit of the files on the branch, signed by the principal.
func (r *Repo) Push(principal string, files Files) string {
	r.tb.Helper()
	return r.Commit(Commit{Files: files, By: r.Key(principal)})
}

// PushUnsigned makes an unsigned commit of the files on the branch.
func (r *Repo) PushUnsigned(files Files) string {
	r.tb.Helper()
	return r.Commit(Commit{Files: files})
}

// MergeRequest makes what a forge makes of a merge request: an unsigned commit of the author's on the side, and a merge of it on
// the branch, signed by the forge's key, which is no principal's, or unsigned if by is nil. It gives the merge.
func (r *Repo) MergeRequest(files Files, by ssh.Signer) string {
	r.tb.Helper()
	side := r.Commit(Commit{Files: files, Detached: true, Message: "a proposed change"})
	return r.Commit(Commit{Files: files, Merge: []string{side}, By: by, Message: "Merge request"})
}

// Commit makes a commit and, unless it is detached, puts the branch on it. It gives its id.
func (r *Repo) Commit(c Commit) string {
	r.tb.Helper()
	parents := c.Parents
	if parents == nil && r.Tip() != "" {
		parents = []string{r.Tip()}
	}
	if c.Tree == "" {
		c.Tree = r.tree(parents, c)
	}
	if c.Date.IsZero() {
		c.Date = r.clock
	}
	if c.Date.After(r.clock) || c.Date.Equal(r.clock) {
		r.clock = c.Date.Add(time.Minute)
	}
	if c.Message == "" {
		c.Message = "change"
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "tree %s\n", c.Tree)
	for _, p := range append(append([]string{}, parents...), c.Merge...) {
		fmt.Fprintf(&head, "parent %s\n", p)
	}
	who := fmt.Sprintf("A Person <person@example.com> %d +0000\n", c.Date.Unix())
	fmt.Fprintf(&head, "author %scommitter %s", who, who)
	body := "\n" + c.Message + "\n"
	if c.By != nil {
		payload := head.String() + c.Headers + body
		head.WriteString(Header("gpgsig", SSHSignature(r.tb, c.By, trust.NamespaceGit, []byte(payload))))
	}
	id := r.Write("commit", []byte(head.String()+c.Headers+body))
	if !c.Detached {
		r.SetRef("refs/heads/"+Branch, id)
	}
	return id
}

// SSHSignature gives the armored SSH signature of the message.
func SSHSignature(tb TB, by ssh.Signer, namespace string, message []byte) string {
	tb.Helper()
	sig, err := sshsig.Sign(bytes.NewReader(message), by, sshsig.HashSHA512, namespace)
	check(tb, err)
	return string(sshsig.Armor(sig))
}

// Header gives a commit header of several lines, as git folds it.
func Header(name, value string) string {
	return name + " " + strings.ReplaceAll(strings.TrimSuffix(value, "\n"), "\n", "\n ") + "\n"
}

// tree gives the tree of a commit with these parents.
func (r *Repo) tree(parents []string, c Commit) string {
	r.tb.Helper()
	if len(c.Files)+len(c.Symlinks)+len(c.Submodules)+len(c.Remove) == 0 && len(parents) > 0 {
		return r.TreeOf(parents[0])
	}
	changes := map[string]*Entry{}
	for _, name := range c.Remove {
		changes[name] = nil
	}
	for name, content := range c.Files {
		changes[name] = &Entry{Mode: "100644", ID: r.Write("blob", []byte(content))}
	}
	for name, target := range c.Symlinks {
		changes[name] = &Entry{Mode: "120000", ID: r.Write("blob", []byte(target))}
	}
	for name, id := range c.Submodules {
		changes[name] = &Entry{Mode: "160000", ID: id}
	}
	base := ""
	if len(parents) > 0 {
		base = r.TreeOf(parents[0])
	}
	return r.edit(base, changes)
}

// TreeOf gives the id of a commit's tree.
func (r *Repo) TreeOf(commit string) string {
	r.tb.Helper()
	return string(r.Raw(commit)[len("tree "):][:40])
}

// edit gives the tree that base becomes with the changes, whose paths are below it. Nil removes.
func (r *Repo) edit(base string, changes map[string]*Entry) string {
	r.tb.Helper()
	entries := map[string]Entry{}
	if base != "" {
		for _, e := range r.Entries(base) {
			entries[e.Name] = e
		}
	}
	below := map[string]map[string]*Entry{}
	for name, e := range changes {
		first, rest, deeper := strings.Cut(name, "/")
		switch {
		case deeper:
			if below[first] == nil {
				below[first] = map[string]*Entry{}
			}
			below[first][rest] = e
		case e == nil:
			delete(entries, first)
		default:
			entries[first] = Entry{Name: first, Mode: e.Mode, ID: e.ID}
		}
	}
	for first, sub := range below {
		old := ""
		if entries[first].Mode == treeMode {
			old = entries[first].ID
		}
		if id := r.edit(old, sub); len(r.Raw(id)) > 0 {
			entries[first] = Entry{Name: first, Mode: treeMode, ID: id}
		} else {
			delete(entries, first)
		}
	}
	return r.Tree(sorted(maps.Values(entries))...)
}
