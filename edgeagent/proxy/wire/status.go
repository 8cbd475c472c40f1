package wire

import "github.com/holdfast-dev/holdfast/edgeagent/scope"

// Status is a metav1.Status: why a request failed, for machines and for people.
type Status struct {
	Code            int
	Reason, Message string
	// The object that the request was about, if any.
	Group, Kind, Name, UID string
	// RetryAfter in seconds; 0: not said.
	RetryAfter int
	Causes     []Cause
}

// Cause is one of a Status' details.
type Cause struct{ Reason, Message, Field string }

// AppendStatus appends a Status as the body of an answer. A Code below 400 is a success.
func AppendStatus(dst []byte, encoding scope.Encoding, status Status) []byte { return dst }

// AppendErrorFrame appends an ERROR frame of a watch.
func AppendErrorFrame(dst []byte, encoding scope.Encoding, status Status) []byte { return dst }

// ReadStatus reads a metav1.Status as an ERROR frame's Item has it.
func ReadStatus(item scope.Item) (Status, error) { return Status{}, ErrMalformed }
