package rewrite

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of k8s.io/api's generated.proto; they never change.
const (
	objectMeta       = 1 // of every object
	metaLabels       = 11
	mapKey, mapValue = 1, 2

	configMapData = 2

	sliceEndpoints, slicePorts, sliceAddressType = 2, 3, 4

	endpointAddresses, endpointConditions, endpointTarget, endpointNode = 1, 2, 4, 6
	conditionReady, conditionServing, conditionTerminating              = 1, 2, 3

	targetUID = 4

	slicePortName, slicePortProtocol, slicePortPort = 1, 2, 3

	endpointsSubsets                             = 2
	subsetAddresses, subsetPorts                 = 1, 3
	addressIP                                    = 1
	subsetPortName, subsetPortPort, subsetPortPr = 1, 2, 3
)

// field is one field of a message: whole with its tag, and its value alone.
type field struct {
	number protowire.Number
	kind   protowire.Type
	whole  []byte
	value  []byte // of strings, bytes and messages
	varint uint64
}

// walk calls each for the fields of a message in turn.
func walk(raw []byte, each func(field) error) error {
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return fmt.Errorf("read object: %w", protowire.ParseError(n))
		}
		f := field{number: number, kind: kind}
		m := protowire.ConsumeFieldValue(number, kind, raw[n:])
		if m < 0 {
			return fmt.Errorf("read object: %w", protowire.ParseError(m))
		}
		f.whole = raw[:n+m]
		switch kind {
		case protowire.BytesType:
			f.value, _ = protowire.ConsumeBytes(raw[n:])
		case protowire.VarintType:
			f.varint, _ = protowire.ConsumeVarint(raw[n:])
		}
		if err := each(f); err != nil {
			return err
		}
		raw = raw[n+m:]
	}
	return nil
}

// find gives the value of the last field of a number, "" if there is none.
func find(raw []byte, number protowire.Number) []byte {
	var out []byte
	_ = walk(raw, func(f field) error { // what cannot be read is not found; the edit that follows says so
		if f.number == number && f.kind == protowire.BytesType {
			out = f.value
		}
		return nil
	})
	return out
}

func appendBytes(dst []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, number, protowire.BytesType), value)
}

func appendVarint(dst []byte, number protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, number, protowire.VarintType), value)
}

func appendBool(dst []byte, number protowire.Number, value *bool) []byte {
	if value == nil {
		return dst
	}
	return appendVarint(dst, number, protowire.EncodeBool(*value))
}

func (e rootCAEdit) protobuf(raw []byte) ([]byte, error) {
	var out []byte
	changed := false
	err := walk(raw, func(f field) error {
		if f.number == configMapData && string(find(f.value, mapKey)) == rootCAKey {
			if joined, ok := e.joined(append([]byte(nil), find(f.value, mapValue)...)); ok {
				entry := appendBytes(appendBytes(nil, mapKey, []byte(rootCAKey)), mapValue, joined)
				out, changed = appendBytes(out, configMapData, entry), true
				return nil
			}
		}
		out = append(out, f.whole...)
		return nil
	})
	if err != nil || !changed {
		return nil, err
	}
	return out, nil
}

// sliceOf gives the service and the family of an EndpointSlice.
func sliceOf(raw []byte) (service, family string) {
	_ = walk(find(raw, objectMeta), func(f field) error {
		if f.number == metaLabels && string(find(f.value, mapKey)) == serviceLabel {
			service = string(find(f.value, mapValue))
		}
		return nil
	})
	return service, string(find(raw, sliceAddressType))
}

// without gives a message without the fields of some numbers.
func without(raw []byte, numbers ...protowire.Number) ([]byte, error) {
	out := make([]byte, 0, len(raw)+64)
	err := walk(raw, func(f field) error {
		for _, n := range numbers {
			if f.number == n {
				return nil
			}
		}
		out = append(out, f.whole...)
		return nil
	})
	return out, err
}

func (e apiSliceEdit) protobuf(raw []byte) ([]byte, error) {
	out, err := without(raw, sliceEndpoints, slicePorts)
	if err != nil {
		return nil, err
	}
	yes := true
	endpoint := appendBytes(nil, endpointAddresses, []byte(e.address.Addr().String()))
	endpoint = appendBytes(endpoint, endpointConditions, appendBool(nil, conditionReady, &yes))
	endpoint = appendBytes(endpoint, endpointNode, []byte(e.node))
	port := appendBytes(nil, slicePortName, []byte(apiPort))
	port = appendBytes(port, slicePortProtocol, []byte("TCP"))
	port = appendVarint(port, slicePortPort, uint64(e.address.Port()))
	return appendBytes(appendBytes(out, sliceEndpoints, endpoint), slicePorts, port), nil
}

func (e endpointsEdit) protobuf(raw []byte) ([]byte, error) {
	other := false
	err := walk(raw, func(f field) error {
		if f.number != endpointsSubsets {
			return nil
		}
		return walk(f.value, func(f field) error {
			if f.number == subsetAddresses && !sameFamily(string(find(f.value, addressIP)), e.address.Addr()) {
				other = true
			}
			return nil
		})
	})
	if err != nil || other {
		return nil, err
	}
	out, err := without(raw, endpointsSubsets)
	if err != nil {
		return nil, err
	}
	port := appendBytes(nil, subsetPortName, []byte(apiPort))
	port = appendVarint(port, subsetPortPort, uint64(e.address.Port()))
	port = appendBytes(port, subsetPortPr, []byte("TCP"))
	subset := appendBytes(nil, subsetAddresses, appendBytes(nil, addressIP, []byte(e.address.Addr().String())))
	return appendBytes(out, endpointsSubsets, appendBytes(subset, subsetPorts, port)), nil
}

func (e overlayEdit) protobuf(raw []byte) ([]byte, error) {
	family := string(find(raw, sliceAddressType))
	var out []byte
	changed := false
	err := walk(raw, func(f field) error {
		p, ok := Pod{}, false
		if f.number == sliceEndpoints {
			p, ok = e[string(find(find(f.value, endpointTarget), targetUID))]
		}
		if !ok {
			out = append(out, f.whole...)
			return nil
		}
		changed = true
		addresses := p.addresses(family)
		if len(addresses) == 0 {
			return nil
		}
		endpoint, err := movedEndpoint(f.value, addresses, p.Ready)
		out = appendBytes(out, sliceEndpoints, endpoint)
		return err
	})
	if err != nil || !changed {
		return nil, err
	}
	return out, nil
}

func movedEndpoint(raw []byte, addresses []string, ready bool) ([]byte, error) {
	var endpoint []byte
	for _, a := range addresses {
		endpoint = appendBytes(endpoint, endpointAddresses, []byte(a))
	}
	rest, err := without(raw, endpointAddresses, endpointConditions)
	if err != nil {
		return nil, err
	}
	var c conditions
	err = walk(find(raw, endpointConditions), func(f field) error {
		value := protowire.DecodeBool(f.varint)
		switch f.number {
		case conditionReady:
			c.ready = &value
		case conditionServing:
			c.serving = &value
		case conditionTerminating:
			c.terminating = &value
		}
		return nil
	})
	c = c.of(ready)
	conditions := appendBool(appendBool(appendBool(nil, conditionReady, c.ready), conditionServing, c.serving), conditionTerminating, c.terminating)
	return append(appendBytes(endpoint, endpointConditions, conditions), rest...), err
}
