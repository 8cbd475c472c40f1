package offline

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers that every object with a status has (k8s.io/api): Node and Pod are the ones that matter here.
const (
	fieldMetadata = 1
	fieldStatus   = 3
)

// graft gives the protobuf message old with some fields as they are in new. What neither side's types know stays.
func graft(old, new []byte, fields []int) ([]byte, error) {
	out := make([]byte, 0, len(old)+len(new))
	for _, side := range []struct {
		raw  []byte
		mine bool // take the fields of the list, or all others
	}{{old, false}, {new, true}} {
		err := walk(side.raw, func(number int, field []byte) {
			if slices.Contains(fields, number) == side.mine {
				out = append(out, field...)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// walk calls each for every field of a message, with the bytes of tag and value.
func walk(raw []byte, each func(number int, field []byte)) error {
	for len(raw) > 0 {
		number, _, n := protowire.ConsumeField(raw)
		if n < 0 {
			return fmt.Errorf("read protobuf: %w", protowire.ParseError(n))
		}
		each(int(number), raw[:n])
		raw = raw[n:]
	}
	return nil
}
