package wire

// finder finds where a JSON value ends that comes in pieces. It counts brackets and knows strings, nothing more: what it has
// found must be checked when it is whole.
type finder struct {
	depth   int
	begun   bool
	scalar  bool // a number or literal: it ends where something else begins
	text    bool // inside a string
	escaped bool // after a backslash
}

// scan reads on. It gives how many bytes of p belong to the value and whether the value is complete. p must not begin with
// whitespace if the value has not begun.
func (f *finder) scan(p []byte) (n int, done bool) {
	if !f.begun {
		f.begun = true
		f.scalar = p[0] != '"' && p[0] != '{' && p[0] != '['
	}
	if f.scalar {
		for i, c := range p {
			if isSpace(c) || c == ',' || c == ']' || c == '}' || c == ':' || c == '"' || c == '{' || c == '[' {
				return i, true
			}
		}
		return len(p), false
	}
	for i := 0; i < len(p); {
		if f.text {
			i = f.string(p, i)
		} else {
			i = f.structure(p, i)
		}
		if f.depth == 0 && !f.text {
			return i, true
		}
	}
	return len(p), false
}

// string reads on inside a string.
func (f *finder) string(p []byte, i int) int {
	if f.escaped {
		f.escaped = false
		return i + 1
	}
	i = plain(p, i)
	if i == len(p) {
		return i
	}
	f.text = p[i] != '"'
	f.escaped = p[i] == '\\'
	return i + 1
}

// structure reads on outside of strings, to the next string or the end of the value.
func (f *finder) structure(p []byte, i int) int {
	for ; i < len(p); i++ {
		switch p[i] {
		case '"':
			f.text = true
			return i + 1
		case '{', '[':
			f.depth++
		case '}', ']':
			if f.depth--; f.depth == 0 {
				return i + 1
			}
		}
	}
	return i
}
