package main

import "slices"

// rows are the promises, in the order they are shown.
var rows = slices.Concat(evaluation(), []row{
	{what: "holdfast vet, 10,000 nodes, nothing remembered", key: key{"reconciler/fleet", "Survey/cold/nodes=10000", "ns/op"}, scale: toSeconds, unit: "s", limit: 10},
	{what: "holdfast vet, 10,000 nodes, one pool changed", key: key{"reconciler/fleet", "Survey/one-pool-changed/nodes=10000", "ns/op"}, scale: toSeconds, unit: "s", limit: 1},
	{what: "holdfast vet, 10,000 nodes: memory of all its processes", key: key{"reconciler/fleet", "Survey/cold/nodes=10000", "peak-MB"}, scale: 1, unit: "MB", limit: 150},

	{what: "a poll with nothing new, 10,000 refs: requests", key: key{"reconciler/source", "Poll", "requests"}, scale: 1, unit: "", limit: 1},
	{what: "a poll with nothing new, 10,000 refs: HTTP", key: key{"reconciler/source", "Poll", "http-bytes"}, scale: 1, unit: "bytes", limit: 2048},
	{what: "a poll with nothing new, 10,000 refs: time", key: key{"reconciler/source", "Poll", "ns/op"}, scale: toMillis, unit: "ms", limit: noLimit},

	{what: "verifying 1,000 commits, 100 pools", key: key{"policy/verify", "Verify1000/pools=100", "ns/op"}, scale: toMillis, unit: "ms", limit: 1000},
	{what: "verifying 1,000 commits, 10,000 pools", key: key{"policy/verify", "Verify1000/pools=10000", "ns/op"}, scale: toMillis, unit: "ms", limit: 1000},

	{what: "from push to labels on the Node, once fetched (slowest)", key: key{"test/agent", "PushToLabels", "fetched-to-labels-ms"}, scale: 1, unit: "ms", limit: 1000},
	{what: "from push to labels on the Node, poll and fetch included", key: key{"test/agent", "PushToLabels", "ns/op"}, scale: toMillis, unit: "ms", limit: noLimit},

	{what: "idle agent: resident", key: key{"test/bench", "IdleAgent", "resident-MB"}, scale: 1, unit: "MB", limit: 50},
	{what: "idle agent: anonymous", key: key{"test/bench", "IdleAgent", "anon-MB"}, scale: 1, unit: "MB", limit: 12},
	{what: "idle agent: fsyncs while it was watched", key: key{"test/bench", "IdleAgent", "fsyncs"}, scale: 1, unit: "", limit: 0},
	{what: "idle agent: minutes watched", key: key{"test/bench", "IdleAgent", "minutes"}, scale: 1, unit: "min", limit: noLimit},
	{what: "idle agent: requests to the API server", key: key{"test/bench", "IdleAgent", "api-requests/minute"}, scale: 1, unit: "/min", limit: noLimit},
}, autonomy(), crowds(), []row{
	growth("API requests of its start", "start-api-requests/agent"),
	growth("API requests of a change", "change-api-requests/agent"),
	growth("Git requests while idle", "idle-git-requests/agent/minute"),
	growth("anonymous memory", "anon-KB/agent"),
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
			row{what: "own pool of 20 nodes, fleet of " + nodes + ": time", key: key{"reconciler/fleet", name, "evaluate-ms"}, scale: 1, unit: "ms", limit: 50},
			row{what: "own pool of 20 nodes, fleet of " + nodes + ": anonymous", key: key{"reconciler/fleet", name, "anon-MB"}, scale: 1, unit: "MB", limit: 20})
	}
	return out
}

// growth is what an agent among 500 costs over what one among 50 does. A tenth more is the noise of the measurement.
func growth(what, unit string) row {
	return row{
		what: "one of 500 agents over one of 50: " + what,
		key:  key{"test/bench", "Crowd/agents=500", unit}, over: key{"test/bench", "Crowd/agents=50", unit},
		scale: 1, unit: "×", limit: 1.1,
	}
}

// crowds is what an agent costs among few and among many.
func crowds() []row {
	var out []row
	for _, agents := range []string{"50", "500"} {
		name := "Crowd/agents=" + agents
		for _, r := range []row{
			{what: "API requests of its start", key: key{unit: "start-api-requests/agent"}, scale: 1, unit: "", limit: noLimit},
			{what: "API requests of a change", key: key{unit: "change-api-requests/agent"}, scale: 1, unit: "", limit: noLimit},
			{what: "API requests while idle", key: key{unit: "idle-api-requests/agent/minute"}, scale: 1, unit: "/min", limit: noLimit},
			{what: "Git requests while idle", key: key{unit: "idle-git-requests/agent/minute"}, scale: 1, unit: "/min", limit: noLimit},
			{what: "anonymous memory", key: key{unit: "anon-KB/agent"}, scale: 1, unit: "KB", limit: noLimit},
		} {
			r.what = "one of " + agents + " agents: " + r.what
			r.key.pkg, r.key.name = "test/bench", name
			out = append(out, r)
		}
	}
	return out
}
