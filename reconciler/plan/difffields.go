package plan

func diff(old, new []*Pool) []Change { return nil }
