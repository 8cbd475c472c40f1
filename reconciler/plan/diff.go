package plan

// Risk says how much a change may hurt what runs.
type Risk string

// The risks, from nothing stops to pods are evicted.
const (
	// RiskLow: nothing that runs is touched.
	RiskLow Risk = "low"
	// RiskMedium: what runs goes on; what is scheduled next, or how the agent behaves, changes.
	RiskMedium Risk = "medium"
	// RiskHigh: pods may be evicted, or a node leaves the fleet's care.
	RiskHigh Risk = "high"
)

// Action is what happens to a node or a pool.
type Action string

// The actions.
const (
	Added   Action = "added"
	Removed Action = "removed"
	Changed Action = "changed"
	// Moved: the node is in another pool.
	Moved Action = "moved"
)

// FieldChange is one changed field. Old is empty if the field is new, New if it is gone.
type FieldChange struct {
	// Path is the field's path in the plan, such as labels["tier"].
	Path string `json:"path"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
	Risk Risk   `json:"risk"`
	// Why says what makes it more than low.
	Why string `json:"why,omitempty"`
}

// Change is what happens to one node, or, if Node is empty, to the pool itself.
type Change struct {
	Action Action `json:"action"`
	// Pool is the pool now; the former one if the node or pool was removed.
	Pool string `json:"pool"`
	// From is the former pool of a node that moved.
	From string `json:"from,omitempty"`
	Node string `json:"node,omitempty"`
	// Risk is the highest of the fields', or the action's own.
	Risk   Risk          `json:"risk"`
	Why    string        `json:"why,omitempty"`
	Fields []FieldChange `json:"fields,omitempty"`
}

// Diff gives what changes between two sets of pools, sorted by pool and node. It is pure. Pools that are the same in
// both may be left out of both.
func Diff(old, new []*Pool) []Change {
	return diff(old, new)
}
