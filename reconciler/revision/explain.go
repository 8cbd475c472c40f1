package revision

import (
	"context"
	"errors"
	"strings"

	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// maxMessage bounds a message: it ends up in a condition.
const maxMessage = 2048

// Explain gives any error's stable reason and a message for people. The reason of nil is "".
func Explain(err error) (reason, message string) {
	if err == nil {
		return "", ""
	}
	reason = reconciler.Reason(err)
	if errors.Is(err, context.DeadlineExceeded) && reason == condition.ReasonBackingOff {
		reason = condition.ReasonUnreachable
	}
	message = strings.ToValidUTF8(err.Error(), "?")
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + " …"
	}
	return reason, message
}
