package wire

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

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

// Field numbers of a metav1.Status.
const (
	statusOutcome, statusMessage, statusReason, statusDetails, statusCode = 2, 3, 4, 5, 6

	detailName, detailGroup, detailKind, detailCause, detailRetry, detailUID = 1, 2, 3, 4, 5, 6

	causeReason, causeMessage, causeField = 1, 2, 3
)

func (s Status) outcome() string {
	if s.Code < 400 {
		return "Success"
	}
	return "Failure"
}

func (s Status) hasDetails() bool {
	return s.Group != "" || s.Kind != "" || s.Name != "" || s.UID != "" || s.RetryAfter != 0 || len(s.Causes) > 0
}

// AppendStatus appends a Status as the body of an answer. A Code below 400 is a success.
func AppendStatus(dst []byte, encoding scope.Encoding, status Status) []byte {
	if encoding != scope.Protobuf {
		return append(status.appendJSON(dst), '\n')
	}
	raw := status.appendProto(nil)
	dst = appendEnvelopeHead(dst, "v1", "Status", len(raw))
	return append(append(dst, raw...), envelopeTail...)
}

// AppendErrorFrame appends an ERROR frame of a watch.
func AppendErrorFrame(dst []byte, encoding scope.Encoding, status Status) []byte {
	if encoding == scope.Protobuf {
		return appendProtoFrame(dst, Error, "v1", "Status", status.appendProto(nil))
	}
	return append(status.appendJSON(appendFrameHead(dst, Error)), '}', '\n')
}

func (s Status) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"kind":"Status","apiVersion":"v1","metadata":{},"status":`...)
	dst = appendQuoted(dst, s.outcome())
	dst = appendMember(dst, `,"message":`, s.Message)
	dst = appendMember(dst, `,"reason":`, s.Reason)
	if s.hasDetails() {
		dst = s.appendDetails(append(dst, `,"details":`...))
	}
	return append(strconv.AppendInt(append(dst, `,"code":`...), int64(s.Code), 10), '}')
}

func (s Status) appendDetails(dst []byte) []byte {
	start := len(dst)
	dst = appendMember(dst, `,"name":`, s.Name)
	dst = appendMember(dst, `,"group":`, s.Group)
	dst = appendMember(dst, `,"kind":`, s.Kind)
	dst = appendMember(dst, `,"uid":`, s.UID)
	for i, c := range s.Causes {
		if i == 0 {
			dst = append(dst, `,"causes":[`...)
		} else {
			dst = append(dst, ',')
		}
		first := len(dst)
		dst = appendMember(dst, `,"reason":`, c.Reason)
		dst = appendMember(dst, `,"message":`, c.Message)
		dst = appendMember(dst, `,"field":`, c.Field)
		dst = closeMembers(dst, first)
	}
	if len(s.Causes) > 0 {
		dst = append(dst, ']')
	}
	if s.RetryAfter != 0 {
		dst = strconv.AppendInt(append(dst, `,"retryAfterSeconds":`...), int64(s.RetryAfter), 10)
	}
	return closeMembers(dst, start)
}

// appendMember appends a member with its comma, unless the value is empty.
func appendMember(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return appendQuoted(append(dst, name...), value)
}

// closeMembers makes an object of the members from start on: the first one's comma becomes the brace.
func closeMembers(dst []byte, start int) []byte {
	if start == len(dst) {
		return append(dst, '{', '}')
	}
	dst[start] = '{'
	return append(dst, '}')
}

// appendProto writes all strings, empty or not, as kube-apiserver does.
func (s Status) appendProto(dst []byte) []byte {
	dst = appendBytes(dst, objectMeta, appendListMeta(nil, List{}))
	dst = appendText(dst, statusOutcome, s.outcome())
	dst = appendText(dst, statusMessage, s.Message)
	dst = appendText(dst, statusReason, s.Reason)
	if s.hasDetails() {
		details := appendText(nil, detailName, s.Name)
		details = appendText(details, detailGroup, s.Group)
		details = appendText(details, detailKind, s.Kind)
		for _, c := range s.Causes {
			cause := appendText(nil, causeReason, c.Reason)
			cause = appendText(cause, causeMessage, c.Message)
			details = appendBytes(details, detailCause, appendText(cause, causeField, c.Field))
		}
		details = appendNumber(details, detailRetry, s.RetryAfter)
		details = appendText(details, detailUID, s.UID)
		dst = appendBytes(dst, statusDetails, details)
	}
	return appendNumber(dst, statusCode, s.Code)
}

func appendNumber(dst []byte, num protowire.Number, value int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), uint64(value))
}

// ReadStatus reads a metav1.Status as an ERROR frame's Item has it.
func ReadStatus(item scope.Item) (Status, error) {
	var s Status
	var err error
	switch item.Encoding {
	case scope.JSON:
		err = s.readJSON(item.Raw)
	case scope.Protobuf:
		err = s.readProto(item.Raw)
	default:
		err = unknownEncoding(item.Encoding)
	}
	if err != nil {
		return Status{}, fmt.Errorf("read status: %w", err)
	}
	return s, nil
}
