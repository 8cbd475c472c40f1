package source

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"

	"github.com/holdfast-dev/holdfast/reconciler/source/pack"
)

// maxWorkTreeObject bounds objects of people's own repositories, which may hold more than a fleet.
const maxWorkTreeObject = 256 << 20

// OpenWorkTree opens the ordinary repository that dir is in, bare or not, also a linked work tree. getenv gives the
// variables that Git sets for hooks (GIT_DIR, GIT_OBJECT_DIRECTORY, GIT_ALTERNATE_OBJECT_DIRECTORIES): with them a
// pre-receive hook sees what is being pushed. nil means none.
func OpenWorkTree(dir string, getenv func(string) string) (*Repo, error) {
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	gitDir, top, err := findGitDir(dir)
	if err != nil {
		return nil, err
	}
	common, err := commonDir(gitDir)
	if err != nil {
		return nil, err
	}
	objects := filepath.Join(common, "objects")
	dirs := []string{objects}
	if env := getenv("GIT_DIR"); env == "" || sameFile(env, gitDir) {
		dirs = objectDirs(objects, getenv)
	}
	dirs, err = withAlternates(dirs)
	if err != nil {
		return nil, err
	}
	store, err := pack.OpenStore(maxWorkTreeObject, dirs...)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w (git fsck tells more)", gitDir, err)
	}
	_, noShallow := os.Stat(filepath.Join(common, "shallow"))
	var fs = osfs.New(gitDir)
	if common != gitDir {
		fs = dotgit.NewRepositoryFilesystem(osfs.New(gitDir), osfs.New(common))
	}
	return &Repo{store: store, top: top, refs: filesystem.NewStorage(fs, cache.NewObjectLRU(0)), shallow: noShallow == nil}, nil
}

// findGitDir looks for the repository in dir and the folders above it.
func findGitDir(dir string) (gitDir, top string, err error) {
	start, err := filepath.Abs(dir)
	if err != nil {
		return "", "", err
	}
	for at := start; ; at = filepath.Dir(at) {
		name := filepath.Join(at, ".git")
		info, err := os.Stat(name)
		if err == nil && info.IsDir() {
			return name, at, nil
		}
		if err == nil { // a linked work tree or a submodule: a file that says where
			raw, err := os.ReadFile(name)
			if err != nil {
				return "", "", err
			}
			to, ok := strings.CutPrefix(strings.TrimSpace(string(raw)), "gitdir: ")
			if !ok {
				return "", "", fmt.Errorf("%s is not Git's", name)
			}
			return within(at, to), at, nil
		}
		if isGitDir(at) {
			return at, "", nil
		}
		if at == filepath.Dir(at) {
			return "", "", fmt.Errorf("%s is not in a Git repository", start)
		}
	}
}

// isGitDir says whether a folder is laid out as a bare repository.
func isGitDir(dir string) bool {
	for _, name := range []string{"HEAD", "objects", "refs"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// commonDir is where a linked work tree's objects and branches are; of others: the repository itself.
func commonDir(gitDir string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(gitDir, "commondir"))
	if missing(err) {
		return gitDir, nil
	}
	if err != nil {
		return "", err
	}
	return within(gitDir, strings.TrimSpace(string(raw))), nil
}

// objectDirs puts the folders that Git's environment names before the repository's own.
func objectDirs(own string, getenv func(string) string) []string {
	var dirs []string
	add := func(dir string) {
		if abs, err := filepath.Abs(dir); dir != "" && err == nil {
			dirs = append(dirs, abs)
		}
	}
	add(getenv("GIT_OBJECT_DIRECTORY"))
	for _, dir := range filepath.SplitList(getenv("GIT_ALTERNATE_OBJECT_DIRECTORIES")) {
		add(strings.Trim(dir, `"`))
	}
	return append(dirs, own)
}

// withAlternates adds the folders that objects/info/alternates names, up to the depth Git goes to.
func withAlternates(dirs []string) ([]string, error) {
	seen := map[string]bool{}
	var all []string
	var add func(dir string, depth int) error
	add = func(dir string, depth int) error {
		if seen[dir] || depth > 5 {
			return nil
		}
		seen[dir] = true
		all = append(all, dir)
		raw, err := os.ReadFile(filepath.Join(dir, "info", "alternates"))
		if err != nil && !missing(err) {
			return err
		}
		for line := range strings.Lines(string(raw)) {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			if err := add(within(dir, line), depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	for _, dir := range dirs {
		if err := add(filepath.Clean(dir), 0); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// within reads a path that may be relative to dir.
func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

func sameFile(a, b string) bool {
	ia, errA := os.Stat(a)
	ib, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(ia, ib)
}

// Resolve gives the id of the commit that rev names: a hash, also a short one, a branch, a tag, HEAD, and these with ^ and
// ~N.
func (r *Repo) Resolve(rev string) (string, error) {
	refs := r.refs
	if refs == nil {
		refs = filesystem.NewStorage(osfs.New(r.dir), cache.NewObjectLRU(0))
	}
	repo, err := git.Open(&checkedStorage{Storage: refs, repo: r}, nil)
	if err != nil {
		return "", fmt.Errorf("resolve %q: %w", rev, err)
	}
	hash, err := repo.ResolveRevision(plumbing.Revision(rev))
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return "", fmt.Errorf("there is no revision %q here", rev)
	}
	if err != nil {
		return "", fmt.Errorf("resolve %q: %w", rev, err)
	}
	kind, _, err := r.Object(hash.String())
	if err != nil {
		return "", fmt.Errorf("resolve %q: %w", rev, err)
	}
	if kind != "commit" {
		return "", fmt.Errorf("%q is a %s, not a commit", rev, kind)
	}
	return hash.String(), nil
}

// checkedStorage is go-git's storage with objects from Repo, which hashes them again.
type checkedStorage struct {
	*filesystem.Storage
	repo *Repo
}

// EncodedObject gives an object to go-git.
func (s *checkedStorage) EncodedObject(want plumbing.ObjectType, hash plumbing.Hash) (plumbing.EncodedObject, error) {
	kind, raw, err := s.repo.Object(hash.String())
	if errors.Is(err, ErrNotFound) {
		return nil, plumbing.ErrObjectNotFound
	}
	if err != nil {
		return nil, err
	}
	t, err := plumbing.ParseObjectType(kind)
	if err != nil {
		return nil, err
	}
	if want != plumbing.AnyObject && want != t {
		return nil, plumbing.ErrObjectNotFound
	}
	o := &plumbing.MemoryObject{}
	o.SetType(t)
	_, err = o.Write(raw)
	return o, err
}

// HasEncodedObject says whether there is such an object.
func (s *checkedStorage) HasEncodedObject(hash plumbing.Hash) error {
	ok, err := s.repo.store.Has(pack.ID(hash))
	if err == nil && !ok {
		return plumbing.ErrObjectNotFound
	}
	return err
}

// HashesWithPrefix lists the objects a short hash may mean.
func (s *checkedStorage) HashesWithPrefix(prefix []byte) ([]plumbing.Hash, error) {
	ids, err := s.repo.store.Prefixed(fmt.Sprintf("%x", prefix))
	var out []plumbing.Hash
	for _, id := range ids {
		out = append(out, plumbing.Hash(id))
	}
	return out, err
}
