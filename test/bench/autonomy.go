package main

import "slices"

// autonomy is what the autonomy proxy promises: test/autonomy measures it with real programs.
func autonomy() []row {
	return slices.Concat(reboots(), online(), []row{
		measured("event, API server to client: added by the proxy, p50", "Proxy/online/event", "added-p50-ms", "ms", 0.2),
		measured("event, API server to client: added by the proxy, p99", "Proxy/online/event", "added-p99-ms", "ms", noLimit),
		measured("event: allocations in the agent", "Proxy/online/event", "agent-allocs/op", "", noLimit),
		measured("event: processor time of the agent", "Proxy/online/event", "agent-cpu-µs/op", "µs", noLimit),

		{what: "offline GET of a node, 4 connections, TLS", key: key{autonomyTests, "Proxy/offline/get/http1", "req/s"}, scale: 1, unit: "req/s", least: 6700},
		measured("offline GET of a node, 4 connections, TLS, HTTP/2", "Proxy/offline/get/http2", "req/s", "req/s", noLimit),
		measured("offline GET: allocations in the agent", "Proxy/offline/get/http1", "agent-allocs/op", "", noLimit),
		measured("offline GET: processor time of the agent", "Proxy/offline/get/http1", "agent-cpu-µs/op", "µs", noLimit),
		measured("offline LIST of 110 pods, 4 connections, TLS, HTTP/2", "Proxy/offline/list", "req/s", "req/s", noLimit),

		measured("agent starts, link known to be down: first answer", "Link/start/refused", "first-answer-ms", "ms", 300),
		measured("agent starts, link black-holed: first answer", "Link/start/black-holed", "first-answer-ms", "ms", 1300),
		measured("black-holed link: noticed, at worst", "Link/black-holed", "lost-worst-s", "s", 2),
		measured("black-holed link is back: noticed, at worst", "Link/black-holed", "back-worst-s", "s", 2),

		measured("110 pods, 200 Secrets with a watch each: resident", "FullNode", "resident-MB", "MB", 69),
		measured("110 pods, 200 Secrets with a watch each: anonymous", "FullNode", "anon-MB", "MB", 25),
		measured("110 pods, 200 Secrets with a watch each: resident, at its peak", "FullNode", "peak-MB", "MB", noLimit),
		measured("110 pods, 200 Secrets with a watch each: watches", "FullNode", "watches", "", noLimit),

		measured("idle node with 12 pods: fsyncs of the agent while it was watched", "IdleNode", "fsyncs", "", 0),
		measured("idle node with 12 pods: minutes watched", "IdleNode", "minutes", "min", noLimit),
	})
}

// autonomyTests is the package of these benchmarks.
const autonomyTests = "test/autonomy"

// measured is a figure that the benchmark gives as it is shown.
func measured(what, name, unit, shown string, limit float64) row {
	return row{what: what, key: key{autonomyTests, name, unit}, scale: 1, unit: shown, limit: limit}
}

// reboots compares a node that comes back without an API server with the same node before it had a proxy, and with an API server.
func reboots() []row {
	var out []row
	for _, pods := range []string{"2", "12", "40"} {
		name, what := "Reboot/pods="+pods, "reboot, "+pods+" pods: "
		over := func(way, text string, limit float64) row {
			return row{what: what + text, key: key{autonomyTests, name, way}, over: key{autonomyTests, name, "alone-s"}, scale: 1, unit: "×", limit: limit}
		}
		out = append(out,
			measured(what+"kubelet alone, live API server", name, "alone-s", "s", noLimit),
			measured(what+"offline, link known to be down", name, "refused-s", "s", noLimit),
			measured(what+"offline, link black-holed (with the race)", name, "black-holed-s", "s", noLimit),
			over("refused-s", "offline, known, over alone", 1.1),
			over("black-holed-s", "offline, black-holed, over alone", 1.1))
	}
	return out
}

// online compares requests through the proxy with the same ones straight at the API server.
func online() []row {
	var out []row
	for _, verb := range []struct{ name, what string }{{"get", "GET of a node"}, {"list", "LIST of 110 pods"}} {
		name, what := "Proxy/online/"+verb.name, "online "+verb.what+": "
		out = append(out,
			measured(what+"direct, p50", name, "direct-p50-ms", "ms", noLimit),
			measured(what+"through the proxy, p50", name, "proxy-p50-ms", "ms", noLimit),
			measured(what+"added, p50", name, "added-p50-ms", "ms", 0.2),
			measured(what+"direct, p99", name, "direct-p99-ms", "ms", noLimit),
			measured(what+"through the proxy, p99", name, "proxy-p99-ms", "ms", noLimit),
			measured(what+"added, p99", name, "added-p99-ms", "ms", 1),
			measured(what+"direct, 4 connections", name, "direct-req/s", "req/s", noLimit),
			measured(what+"through the proxy, 4 connections", name, "proxy-req/s", "req/s", noLimit),
			row{what: what + "throughput, proxy over direct", key: key{autonomyTests, name, "throughput-ratio"}, scale: 1, unit: "×", least: 0.9},
			measured(what+"allocations in the agent", name, "agent-allocs/op", "", noLimit),
			measured(what+"processor time of the agent", name, "agent-cpu-µs/op", "µs", noLimit))
	}
	return out
}
