package wire

import "fmt"

// maxDepth is how deep JSON may nest, as in encoding/json.
const maxDepth = 10000

// malformed says what is wrong with JSON, and where.
func malformed(at int, what string) error {
	return fmt.Errorf("%w JSON at byte %d: %s", ErrMalformed, at, what)
}

// space skips whitespace from i.
func space(b []byte, i int) int {
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	return i
}

func isSpace(c byte) bool {
	return c <= ' ' && (c == ' ' || c == '\n' || c == '\r' || c == '\t')
}

// skip checks the value that begins at b[i] and gives the index after it.
func skip(b []byte, i int) (int, error) {
	var open nesting
	for {
		var err error
		if i, err = open.enter(b, i); err != nil {
			return i, err
		}
		if i, err = open.leave(b, i); err != nil || open.depth == 0 {
			return i, err
		}
	}
}

// nesting remembers which of the open brackets are braces: the first 64 in one word, as nearly all JSON needs.
type nesting struct {
	depth int
	first uint64
	more  []uint64
}

func (n *nesting) push(brace bool) bool {
	if n.depth == maxDepth {
		return false
	}
	word, bit := n.word(n.depth), uint64(1)<<(n.depth%64)
	*word &^= bit
	if brace {
		*word |= bit
	}
	n.depth++
	return true
}

// inObject tells whether the innermost open bracket is a brace.
func (n *nesting) inObject() bool {
	return *n.word(n.depth - 1)&(1<<((n.depth-1)%64)) != 0
}

func (n *nesting) word(depth int) *uint64 {
	if depth < 64 {
		return &n.first
	}
	if i := depth/64 - 1; i == len(n.more) {
		n.more = append(n.more, 0)
	}
	return &n.more[depth/64-1]
}

// enter reads from the beginning of a value to the end of its first scalar or empty bracket, opening brackets on the way.
func (n *nesting) enter(b []byte, i int) (int, error) {
	for {
		if i = space(b, i); i >= len(b) {
			return i, malformed(i, "a value is missing")
		}
		c := b[i]
		if c != '{' && c != '[' {
			return scalar(b, i)
		}
		if !n.push(c == '{') {
			return i, malformed(i, "nested too deep")
		}
		i = space(b, i+1)
		if i < len(b) && b[i] == c+2 { // '}' is '{'+2, ']' is '['+2
			n.depth--
			return i + 1, nil
		}
		if c == '{' {
			var err error
			if i, err = key(b, i); err != nil {
				return i, err
			}
		}
	}
}

// leave reads what follows a value: closing brackets and then a comma, with the next key in an object.
func (n *nesting) leave(b []byte, i int) (int, error) {
	for n.depth > 0 {
		i = space(b, i)
		object := n.inObject()
		switch {
		case i >= len(b):
			return i, malformed(i, "a bracket is not closed")
		case b[i] == '}' && object, b[i] == ']' && !object:
			n.depth--
			i++
		case b[i] != ',':
			return i, malformed(i, "neither a comma nor the closing bracket after a value")
		case object:
			return key(b, space(b, i+1))
		default:
			return i + 1, nil
		}
	}
	return i, nil
}

// key reads a member's name and the colon.
func key(b []byte, i int) (int, error) {
	if i >= len(b) || b[i] != '"' {
		return i, malformed(i, "a member's name is missing")
	}
	i, err := quoted(b, i)
	if err != nil {
		return i, err
	}
	if i = space(b, i); i >= len(b) || b[i] != ':' {
		return i, malformed(i, "no colon after a member's name")
	}
	return i + 1, nil
}

// scalar checks the string, number or literal at b[i] and gives the index after it.
func scalar(b []byte, i int) (int, error) {
	switch b[i] {
	case '"':
		return quoted(b, i)
	case 't':
		return literal(b, i, "true")
	case 'f':
		return literal(b, i, "false")
	case 'n':
		return literal(b, i, "null")
	default:
		return number(b, i)
	}
}

func literal(b []byte, i int, want string) (int, error) {
	if end := i + len(want); end <= len(b) && string(b[i:end]) == want {
		return end, nil
	}
	return i, malformed(i, "no value begins like this")
}

func number(b []byte, i int) (int, error) {
	start := i
	if b[i] == '-' {
		i++
	}
	whole := digits(b, i)
	if whole == i || b[i] == '0' && whole > i+1 {
		return i, malformed(start, "no value begins like this")
	}
	i = whole
	if i < len(b) && b[i] == '.' {
		if whole = digits(b, i+1); whole == i+1 {
			return i, malformed(start, "a number ends in its point")
		}
		i = whole
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if whole = digits(b, i); whole == i {
			return i, malformed(start, "a number has no exponent")
		}
		i = whole
	}
	return i, nil
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' < 10 {
		i++
	}
	return i
}
