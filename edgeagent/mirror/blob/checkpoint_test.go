package blob

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// TestSlowDisk: a download does not wait for a checkpoint, until the next one would be due; then it does, so that a power cut never
// costs more than two.
func TestSlowDisk(t *testing.T) {
	data, d := content(1, 40_000)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		turn := make(chan struct{})
		tuned := small(dir)
		s, err := open(dir, Options{}, tuned)
		must(t, err)
		s.disk.step = func(op, _ string) error {
			if op == "fsync" {
				<-turn
			}
			return nil
		}
		w := writer(t, s, d, len(data))
		var written atomic.Int64
		done := make(chan error)
		go func() {
			for p := range slices.Chunk(data, 1000) {
				n, err := w.Write(p)
				written.Add(int64(n))
				if err != nil {
					t.Error(err)
				}
			}
			done <- w.Commit()
		}()
		synctest.Wait()
		if n := written.Load(); n < tuned.checkpointBytes+1000 || n > 2*tuned.checkpointBytes+2*1000 {
			t.Errorf("%d bytes were written beside a flush that does not end", n)
		}
		close(turn)
		must(t, <-done)
		wantBlob(t, s, d, data)
		must(t, s.Close())
	})
}
