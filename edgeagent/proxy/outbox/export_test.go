package outbox

// MergeKeys gives the table of lists that are merged by key.
func MergeKeys(resource string) map[string]string { return mergeKeys[resource] }
