package revision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// Pool gives the plan of one pool of a revision. Pools whose files are the same as in a revision before are not evaluated
// again. The error has reason PoolAbsent if there is no such pool, is fleet.Problems if the CUE is wrong, and a
// *fleet.LimitError if evaluating it takes too much. The plan is shared: do not change it.
func (f *Follower) Pool(ctx context.Context, commit, pool string) (*plan.Pool, error) {
	l, err := f.layout(ctx, commit)
	if err != nil {
		return nil, err
	}
	if _, ok := l.Pools[pool]; !ok {
		return nil, &reconciler.Failed{Reason: condition.ReasonPoolAbsent, Err: fmt.Errorf("revision %.12s has no folder %s/%s: add it, or enrol the node in a pool that is there", commit, poolsFolder, pool)}
	}
	for {
		if got, ok := f.memo.pool(l.key(pool)); ok {
			return got.plan, got.err()
		}
		batch, pending := f.claim(l, pool)
		if batch == nil {
			select {
			case <-pending:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		err := f.evaluate(ctx, commit, l, batch)
		f.release(l, batch, err)
		if err != nil && (len(batch) == 1 || ctx.Err() != nil) {
			return nil, err
		}
	}
}

// claim gives the pools to evaluate in one child: the one that is asked for, and up to Config.Ahead in all that nobody
// evaluates yet. If another call is at it already there is no batch, but a channel that is closed when it is done.
func (f *Follower) claim(l layout, pool string) (batch []string, pending <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if done, ok := f.running[l.key(pool)]; ok {
		return nil, done
	}
	batch = []string{pool}
	if !f.alone[l.key(pool)] {
		for _, name := range slices.Sorted(maps.Keys(l.Pools)) {
			if len(batch) >= f.cfg.Ahead {
				break
			}
			key := l.key(name)
			_, running := f.running[key]
			if _, known := f.memo.pool(key); !known && !running && !f.alone[key] && name != pool {
				batch = append(batch, name)
			}
		}
	}
	done := make(chan struct{})
	for _, name := range batch {
		f.running[l.key(name)] = done
	}
	return batch, done
}

// release ends a claim. If a batch failed, each of its pools is evaluated alone from then on: one of them is too much, and
// the others must not suffer from it.
func (f *Follower) release(l layout, batch []string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.alone) > 4*f.cfg.MaxPools {
		clear(f.alone)
	}
	var done chan struct{}
	for _, name := range batch {
		key := l.key(name)
		done = f.running[key]
		delete(f.running, key)
		if err != nil && len(batch) > 1 {
			f.alone[key] = true
		}
	}
	close(done)
}

// evaluate evaluates pools in one child and remembers what came of it.
func (f *Follower) evaluate(ctx context.Context, commit string, l layout, pools []string) error {
	at, err := f.Current()
	if err != nil {
		return err
	}
	lim := f.bound(f.cfg.Evaluate, fleet.DefaultLimits())
	in := evaluateInput{Dir: f.cfg.Source.Dir, Commit: commit, Fleet: l.Fleet, Pools: pools, Limits: f.client.Limits()}
	out, err := call[evaluateOutput](ctx, f, childEvaluate, lim, in, at)
	if limit := (*exhausted)(nil); errors.As(err, &limit) {
		return &fleet.LimitError{Pool: pools[0], Err: limit.err}
	}
	if err != nil {
		return err
	}
	if len(out.Outcomes) != len(pools) {
		return fmt.Errorf("run %s: %d answers for %d pools", childEvaluate, len(out.Outcomes), len(pools))
	}
	for i, o := range out.Outcomes {
		f.memo.putPool(l.key(pools[i]), evaluated{plan: o.Pool, problems: o.Problems})
	}
	return nil
}

type evaluateInput struct {
	Dir    string        `json:"dir"`
	Commit string        `json:"commit"`
	Fleet  string        `json:"fleet"`
	Pools  []string      `json:"pools"`
	Limits source.Limits `json:"limits"`
}

type evaluateOutput struct {
	result
	Outcomes []outcome `json:"outcomes"`
}

// outcome is what came of one pool.
type outcome struct {
	Pool     *plan.Pool     `json:"pool,omitempty"`
	Problems fleet.Problems `json:"problems,omitempty"`
}

// serveEvaluate exports the pools' files and evaluates one pool after the other, in the child.
func serveEvaluate(_ context.Context, in evaluateInput) (out evaluateOutput, err error) {
	files, err := export(in)
	if err != nil {
		out.fail(err)
		return out, nil
	}
	for _, pool := range in.Pools {
		var o outcome
		o.Pool, err = fleet.Evaluate(fleet.Input{Fleet: in.Fleet, Pool: pool, Files: files})
		if err != nil && !errors.As(err, &o.Problems) {
			out.fail(err)
			return out, nil
		}
		out.Outcomes = append(out.Outcomes, o)
	}
	return out, nil
}

// export reads the files that evaluating the pools needs, each checked against its id.
func export(in evaluateInput) ([]fleet.File, error) {
	repo, err := source.Open(in.Dir)
	if err != nil {
		return nil, err
	}
	needed := func(path string) bool {
		if below, ok := strings.CutPrefix(path, poolsFolder+"/"); ok {
			pool, _, _ := strings.Cut(below, "/")
			return slices.Contains(in.Pools, pool) && fleet.Needed(pool, path)
		}
		return fleet.Needed("", path)
	}
	files, err := repo.Files(in.Commit, func(path string) bool {
		if folder, ok := strings.CutSuffix(path, "/"); ok {
			return folder == poolsFolder || needed(folder+"/any.cue")
		}
		return needed(path)
	}, in.Limits)
	if err != nil {
		return nil, err
	}
	out := make([]fleet.File, len(files))
	for i, f := range files {
		out[i] = fleet.File{Path: f.Path, Data: f.Data}
	}
	return out, nil
}
