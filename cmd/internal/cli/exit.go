package cli

import (
	"errors"
)

// Exit codes, the same for every command.
const (
	// ExitOK: fine.
	ExitOK = 0
	// ExitWrong: what was checked is wrong, or what was asked for could not be done.
	ExitWrong = 1
	// ExitUsage: the command line is wrong.
	ExitUsage = 2
	// ExitUnreachable: something needed could not be reached: a Git server, an API server, the agent.
	ExitUnreachable = 3
)

type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// Usage marks err as a wrong command line.
func Usage(err error) error { return &codedError{ExitUsage, err} }

// Unreachable marks err as something needed that could not be reached.
func Unreachable(err error) error { return &codedError{ExitUnreachable, err} }

// silentError is an error whose text the command has already shown.
type silentError struct{ err error }

func (e *silentError) Error() string { return e.err.Error() }
func (e *silentError) Unwrap() error { return e.err }

// Shown marks err as already shown in full, so that Run prints nothing more.
func Shown(err error) error { return &silentError{err} }

// reasoner is an error with a stable reason of package condition: package source's are.
type reasoner interface{ StableReason() string }

// codes maps stable reasons to exit codes where ExitWrong is not the word.
var codes = map[string]int{
	"Unreachable":          ExitUnreachable,
	"AuthenticationFailed": ExitUnreachable,
	"ProtocolError":        ExitUnreachable,
	"APIServerUnreachable": ExitUnreachable,
}

// ExitCode is the one place that maps an error to an exit code.
func ExitCode(err error) int {
	var coded *codedError
	var reason reasoner
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &reason):
		if code, ok := codes[reason.StableReason()]; ok {
			return code
		}
	}
	return ExitWrong
}
