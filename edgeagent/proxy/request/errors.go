package request

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Error is a request that kube-apiserver refuses, with what it answers: the fields of a metav1.Status.
type Error struct {
	Code            int
	Reason, Message string
	// Causes are of an Invalid: what is wrong with which option.
	Causes []Cause
}

// Cause is one thing that is wrong with the list options.
type Cause struct {
	Reason, Message, Field string
}

func (e *Error) Error() string { return e.Message }

// badRequest is a 400.
func badRequest(format string, args ...any) *Error {
	return &Error{Code: http.StatusBadRequest, Reason: "BadRequest", Message: fmt.Sprintf(format, args...)}
}

// invalid is a 422 that lists what is wrong, as apimachinery's NewInvalid prints it.
func invalid(causes []Cause) *Error {
	lines := make([]string, len(causes))
	for i, cause := range causes {
		lines[i] = cause.Field + ": " + cause.Message
	}
	text := lines[0]
	if len(lines) > 1 {
		text = "[" + strings.Join(lines, ", ") + "]"
	}
	return &Error{
		Code: http.StatusUnprocessableEntity, Reason: "Invalid", Causes: causes,
		Message: `ListOptions.meta.k8s.io "" is invalid: ` + text,
	}
}

// forbidden is an option that may not be there.
func forbidden(field, detail string) Cause {
	return Cause{Reason: "FieldValueForbidden", Field: field, Message: "Forbidden: " + detail}
}

// unsupported is an option whose value is none of those that are known.
func unsupported(field, value string, known ...string) Cause {
	quoted := make([]string, len(known))
	for i, k := range known {
		quoted[i] = strconv.Quote(k)
	}
	return Cause{
		Reason: "FieldValueNotSupported", Field: field,
		Message: fmt.Sprintf("Unsupported value: %q: supported values: %s", value, strings.Join(quoted, ", ")),
	}
}
