package main

import "slices"

// rows are the promises, in the order they are shown.
var rows = slices.Concat(evaluation(), []row{
	{"holdfast vet, 10,000 nodes, nothing remembered", key{"reconciler/fleet", "Survey/cold/nodes=10000", "ns/op"}, toSeconds, "s", 10},
	{"holdfast vet, 10,000 nodes, one pool changed", key{"reconciler/fleet", "Survey/one-pool-changed/nodes=10000", "ns/op"}, toSeconds, "s", 1},
	{"holdfast vet, 10,000 nodes: memory of all its processes", key{"reconciler/fleet", "Survey/cold/nodes=10000", "peak-MB"}, 1, "MB", 150},

	{"a poll with nothing new, 10,000 refs: requests", key{"reconciler/source", "Poll", "requests"}, 1, "", 1},
	{"a poll with nothing new, 10,000 refs: HTTP", key{"reconciler/source", "Poll", "http-bytes"}, 1, "bytes", 2048},
	{"a poll with nothing new, 10,000 refs: time", key{"reconciler/source", "Poll", "ns/op"}, toMillis, "ms", noLimit},

	{"verifying 1,000 commits, 100 pools", key{"policy/verify", "Verify1000/pools=100", "ns/op"}, toMillis, "ms", 1000},
	{"verifying 1,000 commits, 10,000 pools", key{"policy/verify", "Verify1000/pools=10000", "ns/op"}, toMillis, "ms", 1000},

	{"from push to labels on the Node, once fetched (slowest)", key{"test/agent", "PushToLabels", "fetched-to-labels-ms"}, 1, "ms", 1000},
	{"from push to labels on the Node, poll and fetch included", key{"test/agent", "PushToLabels", "ns/op"}, toMillis, "ms", noLimit},

	{"idle agent: resident", key{"test/bench", "IdleAgent", "resident-MB"}, 1, "MB", 50},
	{"idle agent: anonymous", key{"test/bench", "IdleAgent", "anon-MB"}, 1, "MB", 12},
	{"idle agent: fsyncs while it was watched", key{"test/bench", "IdleAgent", "fsyncs"}, 1, "", 0},
	{"idle agent: minutes watched", key{"test/bench", "IdleAgent", "minutes"}, 1, "min", noLimit},
	{"idle agent: requests to the API server", key{"test/bench", "IdleAgent", "api-requests/minute"}, 1, "/min", noLimit},
}, crowds(), []row{
	{"500 agents against 50: API requests per agent", key{"test/bench", "Crowd/growth", "api-requests"}, 1, "×", 1.1},
	{"500 agents against 50: Git requests per agent", key{"test/bench", "Crowd/growth", "git-requests"}, 1, "×", 1.1},
	{"500 agents against 50: anonymous memory per agent", key{"test/bench", "Crowd/growth", "memory"}, 1, "×", 1.1},
})

const (
	toSeconds = 1e-9 // from nanoseconds
	toMillis  = 1e-6
)

// evaluation is the same promise for fleets of every size: a node evaluates its own pool alone.
func evaluation() []row {
	var out []row
	for _, nodes := range []string{"100", "1000", "10000", "100000"} {
		name := "EvaluateOwnPool/nodes=" + nodes
		out = append(out,
			row{"own pool of 20 nodes, fleet of " + nodes + ": time", key{"reconciler/fleet", name, "evaluate-ms"}, 1, "ms", 50},
			row{"own pool of 20 nodes, fleet of " + nodes + ": anonymous", key{"reconciler/fleet", name, "anon-MB"}, 1, "MB", 20})
	}
	return out
}

// crowds is what an agent costs among few and among many.
func crowds() []row {
	var out []row
	for _, agents := range []string{"50", "500"} {
		name := "Crowd/agents=" + agents
		for _, r := range []row{
			{"API requests of its start", key{unit: "start-api-requests/agent"}, 1, "", noLimit},
			{"API requests of a change", key{unit: "change-api-requests/agent"}, 1, "", noLimit},
			{"API requests while idle", key{unit: "idle-api-requests/agent/minute"}, 1, "/min", noLimit},
			{"Git requests while idle", key{unit: "idle-git-requests/agent/minute"}, 1, "/min", noLimit},
			{"anonymous memory", key{unit: "anon-KB/agent"}, 1, "KB", noLimit},
		} {
			r.what = "one of " + agents + " agents: " + r.what
			r.key.pkg, r.key.name = "test/bench", name
			out = append(out, r)
		}
	}
	return out
}
