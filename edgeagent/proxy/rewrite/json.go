package rewrite

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

type object = map[string]any

func decode(raw []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var o object
	if err := dec.Decode(&o); err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	return o, nil
}

func encode(o object) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(o); err != nil {
		return nil, fmt.Errorf("write object: %w", err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// at gives a string somewhere in an object, "" if it is not there.
func at(o object, path ...string) string {
	for _, key := range path[:len(path)-1] {
		o, _ = o[key].(object)
	}
	s, _ := o[path[len(path)-1]].(string)
	return s
}

func (e rootCAEdit) json(raw []byte) ([]byte, error) {
	o, err := decode(raw)
	if err != nil {
		return nil, err
	}
	data, _ := o["data"].(object)
	have, ok := data[rootCAKey].(string)
	if !ok {
		return nil, nil
	}
	joined, ok := e.joined([]byte(have))
	if !ok {
		return nil, nil
	}
	data[rootCAKey] = string(joined)
	return encode(o)
}

// fits tells whether a slice is of the API server's service, and of the family of the proxy's address.
func (e apiSliceEdit) fits(it scope.Item) bool {
	service, family := "", ""
	if it.Encoding == scope.Protobuf {
		service, family = sliceOf(it.Raw)
	} else if o, err := decode(it.Raw); err == nil {
		service, family = at(o, "metadata", "labels", serviceLabel), at(o, "addressType")
	}
	return service == apiService && family == familyOf(e.address.Addr())
}

func (e apiSliceEdit) json(raw []byte) ([]byte, error) {
	o, err := decode(raw)
	if err != nil {
		return nil, err
	}
	o["endpoints"] = []any{object{
		"addresses": []any{e.address.Addr().String()}, "conditions": object{"ready": true}, "nodeName": e.node,
	}}
	o["ports"] = []any{object{"name": apiPort, "protocol": "TCP", "port": e.address.Port()}}
	return encode(o)
}

func (e endpointsEdit) json(raw []byte) ([]byte, error) {
	o, err := decode(raw)
	if err != nil {
		return nil, err
	}
	subsets, _ := o["subsets"].([]any)
	for _, s := range subsets {
		subset, _ := s.(object)
		list, _ := subset["addresses"].([]any)
		for _, a := range list {
			address, _ := a.(object)
			if !sameFamily(at(address, "ip"), e.address.Addr()) {
				return nil, nil
			}
		}
	}
	o["subsets"] = []any{object{
		"addresses": []any{object{"ip": e.address.Addr().String()}},
		"ports":     []any{object{"name": apiPort, "port": e.address.Port(), "protocol": "TCP"}},
	}}
	return encode(o)
}

// sameFamily tells whether an address is of another's family. What is no address is of every family.
func sameFamily(text string, other netip.Addr) bool {
	ip, err := netip.ParseAddr(text)
	return err != nil || familyOf(ip) == familyOf(other)
}

func (e overlayEdit) json(raw []byte) ([]byte, error) {
	o, err := decode(raw)
	if err != nil {
		return nil, err
	}
	family := at(o, "addressType")
	endpoints, _ := o["endpoints"].([]any)
	kept := make([]any, 0, len(endpoints))
	changed := false
	for _, it := range endpoints {
		endpoint, _ := it.(object)
		p, ok := e[at(endpoint, "targetRef", "uid")]
		if !ok {
			kept = append(kept, it)
			continue
		}
		changed = true
		addresses := p.addresses(family)
		if len(addresses) == 0 {
			continue
		}
		list := make([]any, 0, len(addresses))
		for _, a := range addresses {
			list = append(list, a)
		}
		endpoint["addresses"], endpoint["conditions"] = list, jsonConditions(endpoint, p.Ready)
		kept = append(kept, endpoint)
	}
	if !changed {
		return nil, nil
	}
	o["endpoints"] = kept
	return encode(o)
}

func jsonConditions(endpoint object, ready bool) object {
	have, _ := endpoint["conditions"].(object)
	get := func(key string) *bool {
		if b, ok := have[key].(bool); ok {
			return &b
		}
		return nil
	}
	c := conditions{ready: get("ready"), serving: get("serving"), terminating: get("terminating")}.of(ready)
	out := object{"ready": *c.ready, "serving": *c.serving}
	if c.terminating != nil {
		out["terminating"] = *c.terminating
	}
	return out
}
