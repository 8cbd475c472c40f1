package wire

import "github.com/holdfast-dev/holdfast/edgeagent/scope"

// ListScanner takes the body of a LIST in pieces and gives out its items. The items' bytes are theirs: they may be kept.
type ListScanner struct {
	each func(scope.Item) error
}

// NewListScanner makes a scanner that calls each for every item, in order. An error of each ends the scan.
// An item of a JSON list that comes before the list's kind, and says no kind itself, has none: see List.Own.
func NewListScanner(encoding scope.Encoding, limits Limits, each func(scope.Item) error) *ListScanner {
	return &ListScanner{each: each}
}

// Write takes the next piece. After an error every Write gives it again.
func (s *ListScanner) Write(p []byte) (int, error) { return 0, ErrMalformed }

// Close says what the list is, or an error if it is not complete.
func (s *ListScanner) Close() (List, error) { return List{}, ErrTruncated }

// Own fills in apiVersion and kind of an item that leaves them to its list.
func (l List) Own(item scope.Item) scope.Item { return item }
