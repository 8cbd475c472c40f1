//go:build !linux

package discovery

import (
	"io"
	"time"
)

// watchAddresses has the addresses looked at once a minute, where the kernel does not tell of changes.
func watchAddresses(changed func()) (io.Closer, error) {
	w := &addressWatch{ticker: time.NewTicker(time.Minute), done: make(chan struct{})}
	go func() {
		for {
			select {
			case <-w.ticker.C:
				changed()
			case <-w.done:
				return
			}
		}
	}()
	return w, nil
}

type addressWatch struct {
	ticker *time.Ticker
	done   chan struct{}
}

func (w *addressWatch) Close() error {
	w.ticker.Stop()
	close(w.done)
	return nil
}
