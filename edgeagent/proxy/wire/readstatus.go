package wire

import "strconv"

func (s *Status) readJSON(b []byte) error {
	m := object(b, space(b, 0))
	for m.next() {
		switch string(m.key) {
		case "message":
			s.Message = string(m.text())
		case "reason":
			s.Reason = string(m.text())
		case "code":
			s.Code = m.number()
		case "details":
			if m.isNull() {
				m.skip()
				continue
			}
			m.i, m.err = s.readDetails(b, m.i)
		default:
			m.skip()
		}
	}
	return m.err
}

func (s *Status) readDetails(b []byte, i int) (int, error) {
	m := object(b, i)
	for m.next() {
		switch string(m.key) {
		case "name":
			s.Name = string(m.text())
		case "group":
			s.Group = string(m.text())
		case "kind":
			s.Kind = string(m.text())
		case "uid":
			s.UID = string(m.text())
		case "retryAfterSeconds":
			s.RetryAfter = m.number()
		case "causes":
			if m.isNull() {
				m.skip()
				continue
			}
			m.i, m.err = s.readCauses(b, m.i)
		default:
			m.skip()
		}
	}
	return m.i, m.err
}

func (s *Status) readCauses(b []byte, i int) (int, error) {
	list := array(b, i)
	for list.next() {
		var c Cause
		m := object(b, list.i)
		for m.next() {
			switch string(m.key) {
			case "reason":
				c.Reason = string(m.text())
			case "message":
				c.Message = string(m.text())
			case "field":
				c.Field = string(m.text())
			default:
				m.skip()
			}
		}
		list.i, list.err = m.i, m.err
		s.Causes = append(s.Causes, c)
	}
	return list.i, list.err
}

// number reads a whole number, or null as 0.
func (m *members) number() int {
	start := m.i
	value := m.skip()
	if m.err != nil || value[0] == 'n' {
		return 0
	}
	n, err := strconv.ParseInt(string(value), 10, 32)
	if err != nil {
		m.err = malformed(start, string(m.key)+" is not a whole number")
	}
	return int(n)
}

func (s *Status) readProto(b []byte) error {
	f := message(b)
	for f.next() {
		switch f.num {
		case statusMessage:
			s.Message = string(f.text())
		case statusReason:
			s.Reason = string(f.text())
		case statusCode:
			s.Code = int(int32(f.value))
		case statusDetails:
			details := message(f.text())
			s.takeDetails(&details)
			f.after(&details)
		}
	}
	return f.err
}

func (s *Status) takeDetails(f *fields) {
	for f.next() {
		switch f.num {
		case detailName:
			s.Name = string(f.text())
		case detailGroup:
			s.Group = string(f.text())
		case detailKind:
			s.Kind = string(f.text())
		case detailUID:
			s.UID = string(f.text())
		case detailRetry:
			s.RetryAfter = int(int32(f.value))
		case detailCause:
			var c Cause
			cause := message(f.text())
			for cause.next() {
				switch cause.num {
				case causeReason:
					c.Reason = string(cause.text())
				case causeMessage:
					c.Message = string(cause.text())
				case causeField:
					c.Field = string(cause.text())
				}
			}
			s.Causes = append(s.Causes, c)
			f.after(&cause)
		}
	}
}
