package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/bits"
)

// quoted checks the string at b[i] and gives the index after it.
func quoted(b []byte, i int) (int, error) {
	i++
	for {
		i = plain(b, i)
		switch {
		case i >= len(b):
			return i, malformed(i, "a string is not closed")
		case b[i] == '"':
			return i + 1, nil
		case b[i] != '\\':
			return i, malformed(i, "a control character in a string")
		}
		n := escape(b[i:])
		if n == 0 {
			return i, malformed(i, "an escape that JSON does not have")
		}
		i += n
	}
}

// escape gives the length of the escape at the start of b, 0 if it is none.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	if b[1] != 'u' {
		if bytes.IndexByte([]byte(`"\/bfnrt`), b[1]) < 0 {
			return 0
		}
		return 2
	}
	if len(b) < 6 {
		return 0
	}
	for _, c := range b[2:6] {
		if c-'0' >= 10 && (c|0x20)-'a' >= 6 {
			return 0
		}
	}
	return 6
}

// Eight bytes at once: a byte's high bit is set in the result where the byte is a quote, a backslash or below a space. Bits
// above the first one that is set may be wrong, so only the first counts.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

func special(x uint64) uint64 {
	quote, slash := x^(ones*'"'), x^(ones*'\\')
	return ((x-ones*0x20)&^x | (quote-ones)&^quote | (slash-ones)&^slash) & highs
}

// plain gives the index of the next byte in a string that is a quote, a backslash or a control character.
func plain(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		if found := special(binary.LittleEndian.Uint64(b[i:])); found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= ' ' {
		i++
	}
	return i
}

// unquote gives the text of a string that quoted has checked. Without escapes it is a part of b.
func unquote(b []byte) []byte {
	inner := b[1 : len(b)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var text string
	if json.Unmarshal(b, &text) != nil {
		return inner // cannot be: quoted has checked it
	}
	return []byte(text)
}
