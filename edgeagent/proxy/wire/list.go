package wire

import (
	"fmt"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// ListScanner takes the body of a LIST in pieces and gives out its items. The items' bytes are theirs: they may be kept.
type ListScanner struct {
	body interface {
		write(p []byte) error
		close() (List, error)
	}
	err error
}

// NewListScanner makes a scanner that calls each for every item, in order. An error of each ends the scan.
// An item of a JSON list that comes before the list's kind, and says no kind itself, has none: see List.Own.
func NewListScanner(encoding scope.Encoding, limits Limits, each func(scope.Item) error) *ListScanner {
	hold := holder{limit: limits.object(16 << 20)}
	switch encoding {
	case scope.JSON:
		return &ListScanner{body: &jsonList{each: each, hold: hold}}
	case scope.Protobuf:
		return &ListScanner{body: &protoList{each: each, hold: hold}}
	}
	return &ListScanner{err: unknownEncoding(encoding)}
}

// object gives the limit in force.
func (l Limits) object(otherwise int) int {
	if l.Object > 0 {
		return l.Object
	}
	return otherwise
}

func unknownEncoding(encoding scope.Encoding) error {
	return fmt.Errorf("wire: encoding %d is neither JSON nor protobuf", encoding)
}

// Write takes the next piece. After an error every Write gives it again.
func (s *ListScanner) Write(p []byte) (int, error) {
	if s.err == nil {
		s.err = s.body.write(p)
	}
	if s.err != nil {
		return 0, s.err
	}
	return len(p), nil
}

// Close says what the list is, or an error if it is not complete.
func (s *ListScanner) Close() (List, error) {
	if s.err != nil {
		return List{}, s.err
	}
	return s.body.close()
}

// items gives what the list's items are: their kind is the list's without "List".
func (l List) items() names {
	kind, ok := strings.CutSuffix(l.Kind.Kind, "List")
	if !ok || kind == "" || l.APIVersion == "" {
		return names{}
	}
	return names{l.APIVersion, kind}
}

// Own fills in apiVersion and kind of an item that leaves them to its list.
func (l List) Own(item scope.Item) scope.Item {
	if own := l.items(); item.Kind == "" && item.APIVersion == "" {
		item.APIVersion, item.Kind = own.apiVersion, own.kind
	}
	return item
}
