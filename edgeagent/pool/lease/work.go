package lease

import (
	"context"
	"time"
)

// work is one run of Options.Work.
type work struct {
	held   Held
	cancel context.CancelFunc
	// timer ends it in time even when the lock is held, by a slow disk.
	timer *time.Timer
}

// follow starts and stops the work as the core says. It needs the lock.
func (n *Node) follow() {
	now := n.o.Now()
	held, ok := n.core.Held(now)
	switch {
	case !ok:
		n.stopWork()
	case n.work == nil && !n.closed:
		ctx, cancel := context.WithCancel(context.Background())
		w := &work{held: held, cancel: cancel}
		w.timer = time.AfterFunc(held.Until-n.o.Stop-now, cancel)
		n.work = w
		n.o.Log.Info("this node holds the lease", "lease", n.o.Lease, "token", held.Token)
		n.wg.Go(func() { n.runWork(ctx, w, held) })
	case n.work != nil:
		n.work.held = held
		n.work.timer.Reset(held.Until - n.o.Stop - now)
	}
}

func (n *Node) stopWork() {
	if n.work != nil {
		n.work.timer.Stop()
		n.work.cancel()
	}
}

func (n *Node) runWork(ctx context.Context, w *work, held Held) {
	n.o.Work(ctx, held)
	n.do(func(c *Core, now time.Duration) {
		n.stopWork()
		if until := w.held.Until; now > until {
			n.o.Log.Error("the work went on after the lease had ended; another node may have held it", "lease", n.o.Lease, "token", held.Token, "late", now-until)
		}
		n.work = nil
		c.Stopped(now)
		n.o.Log.Info("this node holds the lease no more", "lease", n.o.Lease, "token", held.Token)
	})
}
