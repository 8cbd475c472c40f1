package rewrite

import (
	"bytes"
	"net/netip"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// edit changes an object in both encodings, and gives nil if there is nothing to change. What it does not know of an object
// it keeps, so that a newer API server's fields reach the caller.
type edit interface {
	json(raw []byte) ([]byte, error)
	protobuf(raw []byte) ([]byte, error)
}

// editOf gives what to do with an object, nil if nothing.
func (r *Rewriter) editOf(it scope.Item) edit {
	switch it.Kind {
	case "ConfigMap":
		if it.APIVersion == "v1" && it.Name == rootCA && len(r.cfg.CA) > 0 {
			return rootCAEdit{r.cfg.CA}
		}
	case "Endpoints":
		if it.APIVersion == "v1" && it.Namespace == apiNamespace && it.Name == apiService && r.cfg.Address.IsValid() {
			return endpointsEdit{r.cfg.Address}
		}
	case "EndpointSlice":
		if it.APIVersion != "discovery.k8s.io/v1" {
			return nil
		}
		if it.Namespace == apiNamespace && r.cfg.Address.IsValid() && bytes.Contains(it.Raw, []byte(serviceLabel)) {
			// Also if the overlay mentions it: no pod is behind this service.
			if e := (apiSliceEdit{r.cfg.Address, r.cfg.Node}); e.fits(it) {
				return e
			}
		}
		return r.overlay(it)
	}
	return nil
}

// overlay gives the edit that puts this node's pods where they are, nil if the slice mentions none that moved.
func (r *Rewriter) overlay(it scope.Item) edit {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var found overlayEdit
	for uid, p := range r.pods {
		if Mentions(it, Change{UID: uid, Namespace: p.Namespace}) {
			if found == nil {
				found = overlayEdit{}
			}
			found[uid] = p
		}
	}
	if found == nil {
		return nil
	}
	return found
}

// rootCAEdit appends the node's own authority to the cluster's.
type rootCAEdit struct{ ca []byte }

// joined gives the certificates with the node's own, or false if it is there already.
func (e rootCAEdit) joined(have []byte) ([]byte, bool) {
	own := bytes.TrimSpace(e.ca)
	if bytes.Contains(have, own) {
		return nil, false
	}
	out := append(bytes.TrimRight(have, "\n"), '\n')
	return append(append(out, own...), '\n'), true
}

// apiSliceEdit says that the API server is the proxy.
type apiSliceEdit struct {
	address netip.AddrPort
	node    string
}

// endpointsEdit says the same in the older API.
type endpointsEdit struct{ address netip.AddrPort }

// overlayEdit has the pods, by UID, whose endpoints move.
type overlayEdit map[string]Pod

// addresses gives a pod's addresses of one family, "IPv4" or "IPv6".
func (p Pod) addresses(family string) []string {
	var out []string
	for _, text := range p.IPs {
		if ip, err := netip.ParseAddr(text); err == nil && familyOf(ip) == family {
			out = append(out, text)
		}
	}
	return out
}

func familyOf(ip netip.Addr) string {
	if ip.Unmap().Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// conditions are those of an endpoint; nil is unknown.
type conditions struct{ ready, serving, terminating *bool }

// of gives an endpoint's conditions when its pod is ready, or not. A pod that is terminating is not ready whatever it says, and
// a service that publishes addresses that are not ready goes on doing so.
func (c conditions) of(ready bool) conditions {
	yes := true
	terminating := c.terminating != nil && *c.terminating
	published := c.ready != nil && *c.ready && c.serving != nil && !*c.serving
	out := conditions{serving: &ready, terminating: c.terminating}
	switch now := ready && !terminating; {
	case published:
		out.ready = &yes
	default:
		out.ready = &now
	}
	return out
}
