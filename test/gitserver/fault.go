package gitserver

import (
	"io"
	"log"
	"net/http"
	"strings"
	"time"
)

// Fault is one way not to work.
type Fault struct {
	serve     func(*Server, http.ResponseWriter, *http.Request)
	blackHole bool
}

// The faults that take no parameters.
var (
	// Healthy: no fault.
	Healthy = Fault{}
	// Hanging: the request is read and never answered.
	Hanging = Fault{serve: func(s *Server, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-s.ctx.Done():
		case <-r.Context().Done():
		}
	}}
	// BlackHole: connections are accepted, nothing is read or answered.
	BlackHole = Fault{blackHole: true}
	// Garbage: what should be Git's protocol is not.
	Garbage = Fault{serve: func(_ *Server, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		_, _ = io.WriteString(w, strings.Repeat("\x00\xff garbage \x1b", 4096))
	}}
	// Page: a web page, as a captive portal answers.
	Page = Fault{serve: func(_ *Server, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>please log in to the guest network</html>")
	}}
)

// Answer answers every request with a status.
func Answer(status int) Fault {
	return Fault{serve: func(_ *Server, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }}
}

// RedirectTo sends every request elsewhere.
func RedirectTo(url string) Fault {
	return Fault{serve: func(_ *Server, w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, url+r.URL.Path, http.StatusTemporaryRedirect)
	}}
}

// Body answers every request with these bytes, as Git's protocol.
func Body(raw []byte) Fault {
	return Fault{serve: func(_ *Server, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		_, _ = w.Write(raw)
	}}
}

// Handle answers every request with h.
func Handle(h http.Handler) Fault {
	return Fault{serve: func(_ *Server, w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }}
}

// CutAfter ends every answer after n bytes of its body, by closing the connection.
func CutAfter(n int64) Fault { return wrapped(func(w *limitedWriter) { w.left, w.cut = n, true }) }

// StallAfter lets every answer stand still after n bytes of its body. onStall, if set, is called then.
func StallAfter(n int64, onStall func()) Fault {
	return wrapped(func(w *limitedWriter) { w.left, w.stalled = n, onStall })
}

// Slow lets every answer come in small pieces with pauses in between.
func Slow(piece int, pause time.Duration) Fault {
	return wrapped(func(w *limitedWriter) { w.left, w.piece, w.pause = 1<<62, piece, pause })
}

func wrapped(set func(*limitedWriter)) Fault {
	return Fault{serve: func(s *Server, w http.ResponseWriter, r *http.Request) {
		lw := &limitedWriter{ResponseWriter: w, r: r, s: s}
		set(lw)
		s.git.ServeHTTP(lw, r)
	}}
}

// limitedWriter is an answer that does not come as it should.
type limitedWriter struct {
	http.ResponseWriter
	r       *http.Request
	s       *Server
	left    int64
	cut     bool
	stalled func()
	piece   int
	pause   time.Duration
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		part := p[:min(int64(len(p)), w.left)]
		if w.piece > 0 {
			part = part[:min(len(part), w.piece)]
		}
		if len(part) == 0 {
			w.end()
		}
		n, err := w.ResponseWriter.Write(part)
		written, p, w.left = written+n, p[n:], w.left-int64(n)
		if err != nil {
			return written, err
		}
		w.ResponseWriter.(http.Flusher).Flush()
		if w.piece > 0 {
			select {
			case <-time.After(w.pause):
			case <-w.r.Context().Done():
			case <-w.s.ctx.Done():
			}
		}
	}
	return written, nil
}

// end stops the answer for good.
func (w *limitedWriter) end() {
	if !w.cut {
		if w.stalled != nil {
			w.stalled()
		}
		Hanging.serve(w.s, w.ResponseWriter, w.r)
	}
	panic(http.ErrAbortHandler)
}

// Set switches a fault on, or all off with Healthy. Connections that are already in a black hole stay there.
func (s *Server) Set(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Down stops listening: connections are refused. Up listens again, on the same port.
func (s *Server) Down() error {
	s.mu.Lock()
	l := s.listener
	s.mu.Unlock()
	return l.Close()
}

// Up ends Down.
func (s *Server) Up() error { return s.listen() }

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
