package wire

// members runs through an object that is whole in memory. After next, i is at the member's value: the caller reads it with skip,
// text or a walk of its own that sets i to the value's end.
type members struct {
	b     []byte
	i     int
	start int    // where the member begins
	key   []byte // its name
	begun bool
	err   error
}

// object begins the object at b[i].
func object(b []byte, i int) members {
	if i >= len(b) || b[i] != '{' {
		return members{b: b, i: i, err: malformed(i, "not an object")}
	}
	return members{b: b, i: i + 1}
}

// next goes to the next member. At the object's end it is false and i is after the closing brace.
func (m *members) next() bool {
	if m.err != nil {
		return false
	}
	b, i := m.b, space(m.b, m.i)
	if i < len(b) && b[i] == '}' {
		m.i = i + 1
		return false
	}
	if m.begun {
		if i >= len(b) || b[i] != ',' {
			m.err = malformed(i, "neither a comma nor a closing brace after a value")
			return false
		}
		i = space(b, i+1)
	}
	m.begun, m.start = true, i
	if m.i, m.err = key(b, i); m.err != nil {
		return false
	}
	end := m.i - 1
	for b[end] != '"' {
		end--
	}
	m.key = unquote(b[i : end+1])
	if m.i = space(b, m.i); m.i >= len(b) {
		m.err = malformed(m.i, "a value is missing")
		return false
	}
	return true
}

// skip reads the value and gives its bytes.
func (m *members) skip() []byte {
	start := m.i
	if m.i, m.err = skip(m.b, start); m.err != nil {
		return nil
	}
	return m.b[start:m.i]
}

// text reads a string, or null as "".
func (m *members) text() []byte {
	start := m.i
	value := m.skip()
	switch {
	case m.err != nil, value[0] == 'n':
		return nil
	case value[0] != '"':
		m.err = malformed(start, string(m.key)+" is not a string")
		return nil
	}
	return unquote(value)
}

// isNull tells whether the value is null.
func (m *members) isNull() bool { return m.b[m.i] == 'n' }

// elements runs through an array that is whole in memory, as members does through an object.
type elements struct {
	b     []byte
	i     int
	begun bool
	err   error
}

// array begins the array at b[i].
func array(b []byte, i int) elements {
	if i >= len(b) || b[i] != '[' {
		return elements{b: b, i: i, err: malformed(i, "not an array")}
	}
	return elements{b: b, i: i + 1}
}

// next goes to the next element. At the array's end it is false and i is after the closing bracket.
func (e *elements) next() bool {
	if e.err != nil {
		return false
	}
	i := space(e.b, e.i)
	if i < len(e.b) && e.b[i] == ']' && !e.begun {
		e.i = i + 1
		return false
	}
	if e.begun {
		if i < len(e.b) && e.b[i] == ']' {
			e.i = i + 1
			return false
		}
		if i >= len(e.b) || e.b[i] != ',' {
			e.err = malformed(i, "neither a comma nor a closing bracket after a value")
			return false
		}
		i++
	}
	e.begun = true
	if e.i = space(e.b, i); e.i >= len(e.b) {
		e.err = malformed(e.i, "a value is missing")
		return false
	}
	return true
}

// skip reads the element.
func (e *elements) skip() { e.i, e.err = skip(e.b, e.i) }
