package verifytest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
)

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestGitReadsWhatItWrites holds the helper against the git program: the repository is sound, the signatures are good by
// ssh-keygen, and the notes are notes.
func TestGitReadsWhatItWrites(t *testing.T) {
	repo := verifytest.New(t, verifytest.WithFiles(verifytest.Files{"fleet.cue": "package fleet\n"}))
	repo.Push("bob", verifytest.Files{"pools/berlin/pool.cue": "package fleet\n"})
	merge := repo.MergeRequest(verifytest.Files{"pools/rome/pool.cue": "package fleet\n"}, nil)
	repo.Commit(verifytest.Commit{Remove: []string{"pools/berlin/pool.cue"}, Symlinks: verifytest.Files{"pools/link": "rome"}, By: repo.Key("carol")})
	repo.Countersign(merge, "alice", "bob")
	repo.FanOutNotes(2)

	git(t, repo.Dir, "fsck", "--strict", "--full")
	if got, want := git(t, repo.Dir, "ls-tree", "-r", "--name-only", "main"), "fleet.cue\npools/link\npools/rome/pool.cue\ntrust/allowed_signers\ntrust/policy.json\n"; got != want {
		t.Fatalf("files are %q, want %q", got, want)
	}
	signers := filepath.Join(t.TempDir(), "signers")
	if err := os.WriteFile(signers, []byte(git(t, repo.Dir, "show", "main:trust/allowed_signers")), 0o644); err != nil {
		t.Fatal(err)
	}
	for rev, who := range map[string]string{repo.Anchor(): "alice", repo.Tip(): "carol"} {
		out := git(t, repo.Dir, "-c", "gpg.ssh.allowedSignersFile="+signers, "log", "-1", "--format=%G? %GS", rev)
		if out != "G "+who+"\n" {
			t.Fatalf("signature of %s is %q", rev, out)
		}
	}
	if note := git(t, repo.Dir, "notes", "--ref=holdfast", "show", merge); strings.Count(note, "countersignature ") != 2 {
		t.Fatalf("note is %q", note)
	}
}
