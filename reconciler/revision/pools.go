package revision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// poolsFolder holds a folder for each pool.
const poolsFolder = "pools"

// layout is what evaluating a commit's pools depends on.
type layout struct {
	// Fleet is the fleet's id.
	Fleet string `json:"fleet"`
	// Root is a digest over what every pool inherits.
	Root string `json:"root"`
	// Pools are the ids of the pools' trees.
	Pools map[string]string `json:"pools"`
}

// key is what the plan of one of its pools depends on.
func (l layout) key(pool string) poolKey {
	return poolKey{fleet: l.Fleet, root: l.Root, pool: pool, tree: l.Pools[pool]}
}

// Pools names the pools of a revision: the folders below pools/, sorted.
func (f *Follower) Pools(ctx context.Context, commit string) ([]string, error) {
	l, err := f.layout(ctx, commit)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(l.Pools)), nil
}

// layout reads which pools a commit has, in a child, and remembers it.
func (f *Follower) layout(ctx context.Context, commit string) (layout, error) {
	if l, ok := f.memo.layout(commit); ok {
		return l, nil
	}
	at, err := f.Current()
	if err != nil {
		return layout{}, err
	}
	out, err := call[layoutOutput](ctx, f, childLayout, f.verifyLimits(), layoutInput{f.cfg.Source.Dir, commit}, at)
	if err != nil {
		return layout{}, fmt.Errorf("read revision %.12s: %w", commit, err)
	}
	f.memo.putLayout(commit, out.Layout)
	return out.Layout, nil
}

type layoutInput struct {
	Dir    string `json:"dir"`
	Commit string `json:"commit"`
}

type layoutOutput struct {
	result
	Layout layout `json:"layout"`
}

// serveLayout reads a commit's layout, in the child.
func serveLayout(_ context.Context, in layoutInput) (out layoutOutput, err error) {
	repo, err := source.Open(in.Dir)
	if err == nil {
		out.Layout, err = readLayout(repo, in.Commit)
	}
	if err != nil {
		out.fail(err)
	}
	return out, nil
}

func readLayout(repo *source.Repo, commit string) (l layout, err error) {
	if l.Fleet, err = fleetID(repo, commit); err != nil {
		return l, err
	}
	root, err := repo.Root(commit)
	if err != nil {
		return l, err
	}
	entries, err := repo.Tree(root)
	if err != nil {
		return l, err
	}
	sum := sha256.New()
	l.Pools = map[string]string{}
	for _, e := range entries {
		if e.Name == poolsFolder {
			if l.Pools, err = folders(repo, e); err != nil {
				return l, err
			}
		} else if shared(e) {
			fmt.Fprintf(sum, "%s %s %q\n", e.Mode, e.Hash, e.Name)
		}
	}
	l.Root = hex.EncodeToString(sum.Sum(nil))
	return l, nil
}

// shared says whether every pool's evaluation depends on an entry of the root. A file in the folder stands for all of it.
func shared(e source.Entry) bool {
	if e.Mode == "40000" {
		return fleet.Needed("", e.Name+"/any.cue")
	}
	return fleet.Needed("", e.Name)
}

// folders lists the folders in a folder.
func folders(repo *source.Repo, e source.Entry) (map[string]string, error) {
	out := map[string]string{}
	if e.Mode != "40000" {
		return out, nil
	}
	entries, err := repo.Tree(e.Hash)
	for _, e := range entries {
		if e.Mode == "40000" {
			out[e.Name] = e.Hash
		}
	}
	return out, err
}

// fleetID reads the fleet's id out of trust/policy.json.
func fleetID(repo *source.Repo, commit string) (string, error) {
	name := trust.Folder + "/" + trust.PolicyFile
	e, ok, err := repo.At(commit, name)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", &reconciler.Failed{Reason: condition.ReasonInvalidFleet, Err: fmt.Errorf("%s is missing", name)}
	}
	_, raw, err := repo.Object(e.Hash)
	if err != nil {
		return "", err
	}
	p, err := trust.ParsePolicy(raw)
	if err != nil {
		return "", &reconciler.Failed{Reason: condition.ReasonInvalidFleet, Err: err}
	}
	return p.Fleet, nil
}
