package source

// File is one file of a revision, its bytes checked against its id.
type File struct {
	Path string `json:"path"`
	// Mode is Git's: 100644, 100755 or 120000.
	Mode string `json:"mode"`
	// Hash is the blob's id.
	Hash string `json:"hash"`
	Data []byte `json:"data"`
}

// Entry is one entry of a tree.
type Entry struct {
	Name string
	// Mode is Git's, as it is in the tree: 40000 for a folder, 160000 for a submodule.
	Mode string
	Hash string
}

// Repo reads objects of one repository. It is not safe for concurrent use. Close it.
type Repo struct{}

// Open opens the bare clone in dir.
func Open(dir string) (*Repo, error) { return nil, nil }

// OpenWorkTree opens the ordinary repository that dir is in, bare or not, also a linked work tree. getenv gives the
// variables that Git sets for hooks (GIT_DIR, GIT_OBJECT_DIRECTORY, GIT_ALTERNATE_OBJECT_DIRECTORIES); nil means none.
func OpenWorkTree(dir string, getenv func(string) string) (*Repo, error) { return nil, nil }

// Close releases the repository's files.
func (r *Repo) Close() error { return nil }

// Top gives the top folder of the work tree, or "" if there is none.
func (r *Repo) Top() string { return "" }

// Object gives an object's kind (commit, tree, blob or tag) and its bytes, hashed again and equal to id. An error is
// ErrNotFound, ErrDamaged or one with ReasonTooLarge, wrapped. The bytes are shared: do not change them.
func (r *Repo) Object(id string) (kind string, raw []byte, err error) { return "", nil, nil }

// Refs gives the refs of the clone as of the last complete fetch; of a work tree: HEAD and the notes.
func (r *Repo) Refs() (Refs, error) { return Refs{}, nil }

// Resolve gives the id of the commit that rev names: a hash, also a short one, a branch, a tag, HEAD, and these with ^ and ~N.
func (r *Repo) Resolve(rev string) (string, error) { return "", nil }

// Tree gives the entries of the tree with that id, in Git's order.
func (r *Repo) Tree(id string) ([]Entry, error) { return nil, nil }

// At finds the entry at path ("" for the root) in a commit. The bool says whether there is one.
func (r *Repo) At(commit, path string) (Entry, bool, error) { return Entry{}, false, nil }

// Files gives the files of a commit, sorted by path. within says of a folder's path (ending in a slash) whether to look
// into it, and of a file's path whether to take it. Symlinks and submodules are not given. More than Limits allow is an
// error with ReasonTooLarge.
func (r *Repo) Files(commit string, within func(path string) bool, lim Limits) ([]File, error) {
	return nil, nil
}
