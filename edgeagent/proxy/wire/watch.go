package wire

import "github.com/holdfast-dev/holdfast/edgeagent/scope"

// WatchScanner takes the body of a WATCH in pieces and gives out its frames. Their bytes are theirs: they may be kept.
// Between frames it holds no memory.
type WatchScanner struct {
	each func(Frame) error
}

// NewWatchScanner makes a scanner that calls each for every frame, in order, as soon as it is complete. An error of each ends the scan.
func NewWatchScanner(encoding scope.Encoding, limits Limits, each func(Frame) error) *WatchScanner {
	return &WatchScanner{each: each}
}

// Write takes the next piece. After an error every Write gives it again.
func (s *WatchScanner) Write(p []byte) (int, error) { return 0, ErrMalformed }

// Close says whether the stream ended between two frames.
func (s *WatchScanner) Close() error { return ErrTruncated }
