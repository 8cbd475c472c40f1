package cli

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Progress tells a person that something long goes on. It stays silent for the first second. On a terminal it rewrites
// one line; elsewhere (a CI log) it prints a line every ten seconds. HOLDFAST_PROGRESS=off keeps it silent, for who
// compares standard error.
type Progress struct {
	w        io.Writer
	terminal bool
	done     chan struct{}
	ended    chan struct{}

	mu   sync.Mutex // guards text
	text string
}

// Progress starts showing text. Call Stop when the work is done.
func (e *Env) Progress(format string, args ...any) *Progress {
	w := e.Err
	if e.Getenv("HOLDFAST_PROGRESS") == "off" {
		w = io.Discard
	}
	p := &Progress{w: w, terminal: isTerminal(w), done: make(chan struct{}), ended: make(chan struct{}), text: fmt.Sprintf(format, args...)}
	go p.run()
	return p
}

// Set changes what is shown. It is safe for concurrent use.
func (p *Progress) Set(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = fmt.Sprintf(format, args...)
}

// Stop ends the showing and clears the line. It may be called once.
func (p *Progress) Stop() {
	close(p.done)
	<-p.ended
}

func (p *Progress) run() {
	defer close(p.ended)
	every := 10 * time.Second
	if p.terminal {
		every = 200 * time.Millisecond
	}
	start := time.Now()
	next := time.NewTimer(time.Second)
	defer next.Stop()
	shown := false
	for {
		select {
		case <-p.done:
			if shown && p.terminal {
				fmt.Fprint(p.w, "\r\x1b[K")
			}
			return
		case <-next.C:
			p.show(time.Since(start))
			shown = true
			next.Reset(every)
		}
	}
}

func (p *Progress) show(elapsed time.Duration) {
	p.mu.Lock()
	text := p.text
	p.mu.Unlock()
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s … %s", text, elapsed.Truncate(time.Second))
		return
	}
	fmt.Fprintf(p.w, "%s … %s\n", text, elapsed.Truncate(time.Second))
}
