package oci

import (
	"fmt"
	"strings"
)

// The longest names that are read. The specification bounds tags; the others are bounded as Docker's distribution does.
const (
	MaxRepository = 255
	MaxTag        = 128
	MaxRegistry   = 255
)

// CheckRepository says what is wrong with a repository's name such as "library/nginx". A name that passes has only lower-case letters,
// digits, '.', '_', '-' and '/', and neither an empty component nor one that is or begins with a dot.
func CheckRepository(name string) error {
	if name == "" || len(name) > MaxRepository {
		return fmt.Errorf("repository %s: has %d characters, not 1 to %d", quote(name), len(name), MaxRepository)
	}
	for component := range strings.SplitSeq(name, "/") {
		if err := checkComponent(component); err != nil {
			return fmt.Errorf("repository %s: %w", quote(name), err)
		}
	}
	return nil
}

// checkComponent: words of letters and digits, separated by '.', '_', '__' or dashes.
func checkComponent(component string) error {
	if component == "" {
		return fmt.Errorf("an empty component")
	}
	for rest := component; ; {
		word := prefix(rest, isLowerAlphanumeric)
		if word == 0 {
			return fmt.Errorf("component %s: letters a to z and digits, separated by one '.', '_', '__' or dashes", quote(component))
		}
		rest = rest[word:]
		if rest == "" {
			return nil
		}
		rest = rest[separator(rest):]
	}
}

// separator is the length of the separator that s begins with.
func separator(s string) int {
	switch {
	case s[0] == '.':
		return 1
	case strings.HasPrefix(s, "__"):
		return 2
	case s[0] == '_':
		return 1
	}
	return prefix(s, func(c byte) bool { return c == '-' })
}

// CheckTag says what is wrong with a tag such as "v1.2".
func CheckTag(tag string) error {
	if tag == "" || len(tag) > MaxTag {
		return fmt.Errorf("tag %s: has %d characters, not 1 to %d", quote(tag), len(tag), MaxTag)
	}
	if tag[0] == '.' || tag[0] == '-' || prefix(tag, isTag) != len(tag) {
		return fmt.Errorf("tag %s: letters, digits, '_', '.' and '-', and neither '.' nor '-' at the beginning", quote(tag))
	}
	return nil
}

// CheckRegistry says what is wrong with a registry's host such as "docker.io", "registry.example:5000" or "[fd00::1]:5000".
func CheckRegistry(host string) error {
	if host == "" || len(host) > MaxRegistry {
		return fmt.Errorf("registry %s: has %d characters, not 1 to %d", quote(host), len(host), MaxRegistry)
	}
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		name, port = host[:i], host[i+1:]
		if port == "" || len(port) > 5 || prefix(port, isDigit) != len(port) {
			return fmt.Errorf("registry %s: %s is no port", quote(host), quote(port))
		}
	}
	if address, isIPv6 := strings.CutPrefix(name, "["); isIPv6 {
		address, closed := strings.CutSuffix(address, "]")
		if !closed || address == "" || prefix(address, isIPv6Character) != len(address) {
			return fmt.Errorf("registry %s: no IPv6 address in brackets", quote(host))
		}
		return nil
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || prefix(label, isHost) != len(label) || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("registry %s: no name or address of a host", quote(host))
		}
	}
	return nil
}

// prefix is how many bytes at the beginning of s are in a class.
func prefix(s string, in func(byte) bool) int {
	for i := range len(s) {
		if !in(s[i]) {
			return i
		}
	}
	return len(s)
}

func isLowerAlphanumeric(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'z' }

func isHost(c byte) bool { return isLowerAlphanumeric(c) || c >= 'A' && c <= 'Z' || c == '-' }

func isTag(c byte) bool { return isHost(c) || c == '_' || c == '.' }

func isIPv6Character(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == ':' || c == '.'
}
