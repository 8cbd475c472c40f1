package fleet

import (
	"context"
	"errors"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

// Survey evaluates pools of a tree: those that changed in child processes, several at a time, the others from the memo.
type Survey struct {
	// Fleet is the fleet's id.
	Fleet string
	// Memo remembers results; nil means none does.
	Memo *Memo
	// Limits bound each child. Zero means DefaultLimits.
	Limits sandbox.Limits
	// Progress, if set, is told how many pools are done. It is called by one goroutine at a time.
	Progress func(done, total int)
}

// maxWorkers bounds the children that run at a time, because each has its own memory.
const maxWorkers = 4

// maxBatch bounds the pools one child evaluates: what it is given and gives back stays small, and the starting of
// processes, some 20 ms each, is hidden.
const maxBatch = 16

// Root checks what every pool inherits. If it is wrong every pool is, and there is no use in telling so for each.
func (s *Survey) Root(ctx context.Context, t Tree) (Problems, error) {
	g, err := shared(t)
	if err != nil {
		return nil, err
	}
	ps, err := strays(t)
	if err != nil {
		return nil, err
	}
	if ps = append(ps, g.problems...); len(ps) > 0 {
		return ps.tidy(), nil
	}
	key := s.Memo.key(s.Fleet, "", g)
	if o, ok := s.Memo.get(key); ok {
		return o.Problems, nil
	}
	files, err := g.files(t)
	if err != nil {
		return nil, err
	}
	out, err := s.evaluate(ctx, batch{Fleet: s.Fleet, Shared: files, Pools: []member{{}}})
	if err != nil {
		return nil, err
	}
	s.Memo.put(key, out[0])
	return out[0].Problems, nil
}

// Pools evaluates the named pools and gives each plan to each, in any order, one at a time. Problems are the fleet
// repo's; the error is what kept it from being evaluated.
func (s *Survey) Pools(ctx context.Context, t Tree, names []string, each func(*plan.Pool)) (Problems, error) {
	root, err := shared(t)
	if err != nil {
		return nil, err
	}
	r := &run{Survey: s, tree: t, root: root, total: len(names), each: each}
	missing, err := r.remembered(names)
	if err != nil {
		return nil, err
	}
	if err := r.evaluateAll(ctx, missing); err != nil {
		return nil, err
	}
	return r.problems.tidy(), nil
}

// run is one call of Pools. Only its own goroutine uses it.
type run struct {
	*Survey
	tree     Tree
	root     gathered
	total    int
	done     int
	each     func(*plan.Pool)
	problems Problems
}

// remembered settles what the memo knows, and gives the names of the others.
func (r *run) remembered(names []string) (missing []string, err error) {
	for _, name := range names {
		g, err := own(r.tree, name)
		if err != nil {
			return nil, err
		}
		if len(g.problems) > 0 {
			r.settle(outcome{Problems: g.problems})
		} else if o, ok := r.Memo.get(r.Memo.key(r.Fleet, name, r.root, g)); ok {
			r.settle(o)
		} else {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

func (r *run) settle(o outcome) {
	r.problems = append(r.problems, o.Problems...)
	if o.Pool != nil {
		r.each(o.Pool)
	}
	r.done++
	if r.Progress != nil {
		r.Progress(r.done, r.total)
	}
}

// job is a batch with the keys of its pools, and then what came of them.
type job struct {
	batch
	keys []string
	out  []outcome
}

// evaluateAll evaluates the pools in children. One goroutine reads the tree, some wait for children, and this one
// settles results.
func (r *run) evaluateAll(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	files, err := r.root.files(r.tree)
	if err != nil {
		return err
	}
	workers := min(runtime.GOMAXPROCS(0), maxWorkers, len(names))
	size := min(maxBatch, (len(names)+workers-1)/workers)
	todo, done := make(chan *job), make(chan *job)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(todo)
		for chunk := range slices.Chunk(names, size) {
			j, err := r.job(files, chunk)
			if err != nil {
				return err
			}
			select {
			case todo <- j:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error { return r.work(ctx, todo, done) })
	}
	failed := make(chan error, 1)
	go func() {
		failed <- group.Wait()
		close(done)
	}()
	for j := range done {
		for i, o := range j.out {
			r.Memo.put(j.keys[i], o)
			r.settle(o)
		}
	}
	return <-failed
}

// job reads the files of some pools. The keys are made of the very bytes that are evaluated.
func (r *run) job(root []File, names []string) (*job, error) {
	j := &job{batch: batch{Fleet: r.Fleet, Shared: root}}
	for _, name := range names {
		g, err := own(r.tree, name)
		if err != nil {
			return nil, err
		}
		files, err := g.files(r.tree)
		if err != nil {
			return nil, err
		}
		j.Pools = append(j.Pools, member{Name: name, Files: files})
		j.keys = append(j.keys, r.Memo.key(r.Fleet, name, r.root, g))
	}
	return j, nil
}

func (r *run) work(ctx context.Context, todo <-chan *job, done chan<- *job) error {
	for j := range todo {
		out, err := r.evaluate(ctx, j.batch)
		if err != nil {
			return err
		}
		j.out = out
		select {
		case done <- j:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// evaluate evaluates a batch in a child. If the child uses up what it may, each pool gets a child of its own, to find
// the one to blame: that is then a problem of the fleet repo.
func (s *Survey) evaluate(ctx context.Context, b batch) ([]outcome, error) {
	lim := s.Limits
	if lim == (sandbox.Limits{}) {
		lim = DefaultLimits()
	}
	out, err := callBatch(ctx, lim, b)
	var over *LimitError
	if !errors.As(err, &over) {
		return out, err
	}
	if len(b.Pools) == 1 {
		return []outcome{{Problems: Problems{over.problem()}, over: true}}, nil
	}
	for i := range b.Pools {
		one, err := s.evaluate(ctx, batch{Fleet: b.Fleet, Shared: b.Shared, Pools: b.Pools[i : i+1]})
		if err != nil {
			return nil, err
		}
		out = append(out, one...)
	}
	return out, nil
}

// problem tells of the limit as of something wrong in the fleet repo.
func (e *LimitError) problem() Problem {
	file := poolsDir + e.Pool
	if e.Pool == "" {
		file = "fleet.cue"
	}
	return Problem{File: file, Message: "takes too much to evaluate: " + e.Err.Error()}
}
