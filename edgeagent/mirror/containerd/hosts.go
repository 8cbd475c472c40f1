package containerd

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// The lines between these are ours, wherever somebody moves them.
const (
	begin = "# BEGIN holdfast-agent: pulls go to this node's mirror. The agent takes these lines out again by itself."
	end   = "# END holdfast-agent"
)

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// block is what goes into a file.
func (o Options) block(only bool) string {
	const both = `capabilities = ["pull", "resolve"]`
	if only {
		// The empty table is for containerd 1.x, which reads no file without one.
		return fmt.Sprintf("%s\n# Some of this registry must be signed: nothing is pulled around the mirror.\nserver = %q\n%s\nca = %s\n[host]\n%s\n", begin, o.Mirror, both, quote(o.CA), end)
	}
	return fmt.Sprintf("%s\n[host.%q]\n  %s\n  ca = %s\n%s\n", begin, o.Mirror, both, quote(o.CA), end)
}

// quote writes a TOML string.
func quote(s string) string {
	raw, err := toml.Marshal(map[string]string{"s": s})
	if err != nil {
		return "''"
	}
	return strings.TrimSpace(strings.TrimPrefix(string(raw), "s ="))
}

// compose puts the mirror before all other hosts of a file, and changes nothing else of it.
func (o Options) compose(original []byte, only bool) ([]byte, error) {
	block := o.block(only)
	if only {
		return []byte(block), nil
	}
	before, order, err := parseHosts(original)
	if err != nil {
		return nil, err
	}
	if slices.Contains(order, o.Mirror) {
		return nil, fmt.Errorf("it names %s already: take that out", o.Mirror)
	}
	at, err := firstTable(original)
	if err != nil {
		return nil, err
	}
	head := string(original[:at])
	if head != "" && !strings.HasSuffix(head, "\n") {
		head += "\n"
	}
	edited := []byte(head + block + string(original[at:]))
	after, order, err := parseHosts(edited)
	hosts, _ := after["host"].(map[string]any)
	named := len(hosts)
	delete(hosts, o.Mirror)
	if _, had := before["host"]; !had && len(hosts) == 0 {
		delete(after, "host")
	}
	if err != nil || len(order) != named || order[0] != o.Mirror || !reflect.DeepEqual(before, after) {
		return nil, errors.New("the mirror cannot be put in without changing what it says: rewrite it with one table [host.\"…\"] for each host")
	}
	return edited, nil
}

// parseHosts reads a file, and in which order its hosts are asked.
func parseHosts(raw []byte) (document map[string]any, order []string, err error) {
	if err := toml.Unmarshal(raw, &document); err != nil {
		return nil, nil, fmt.Errorf("it is no TOML, and containerd does not use it: %w", err)
	}
	if document == nil {
		document = map[string]any{}
	}
	var p unstable.Parser
	p.Reset(raw)
	for p.NextExpression() {
		if e := p.Expression(); e.Kind == unstable.Table {
			var parts []string
			for key := e.Key(); key.Next(); {
				parts = append(parts, string(key.Node().Data))
			}
			if len(parts) > 1 && parts[0] == "host" && !slices.Contains(order, parts[1]) {
				order = append(order, parts[1])
			}
		}
	}
	return document, order, p.Error()
}

// firstTable is where the line of the first table begins, or the end: what stands before it belongs to no host.
func firstTable(raw []byte) (int, error) {
	var p unstable.Parser
	p.Reset(raw)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table && e.Kind != unstable.ArrayTable {
			continue
		}
		key := e.Key()
		if !key.Next() {
			break
		}
		at := int(p.Range(key.Node().Data).Offset)
		return bytes.LastIndexByte(raw[:at], '\n') + 1, nil
	}
	return len(raw), p.Error()
}

// strip takes our lines out of a text, and tells whether there were any.
func strip(text []byte) (rest []byte, found bool) {
	from := bytes.Index(text, []byte(begin))
	if from < 0 {
		return text, false
	}
	length := bytes.Index(text[from:], []byte(end))
	if length < 0 {
		return text, false
	}
	to := from + length + len(end)
	if to < len(text) && text[to] == '\n' {
		to++
	}
	return append(bytes.Clone(text[:from]), text[to:]...), true
}

// inherited gives what our file has to say so that what is in force for a registry stays in force behind the mirror: a folder of its
// own hides that of all registries, and a hosts.toml hides certificates that lie beside it.
func inherited(inForce, path string) ([]byte, error) {
	switch {
	case inForce == "":
		return nil, nil
	case inForce == filepath.Dir(path): // there is no file but ours
		return certificates(inForce)
	}
	raw, err := os.ReadFile(filepath.Join(inForce, hostsFile))
	if err == nil && len(raw) > 0 {
		document, _, err := parseHosts(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(inForce, hostsFile), err)
		}
		if path := relative(document); path != "" {
			return nil, fmt.Errorf("%s names %s by a relative path, which means another file from elsewhere: make it absolute", filepath.Join(inForce, hostsFile), path)
		}
		return raw, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return certificates(inForce)
}

// relative finds a certificate's file that is given relative to the folder.
func relative(document map[string]any) string {
	tables := []map[string]any{document}
	if hosts, ok := document["host"].(map[string]any); ok {
		for _, host := range hosts {
			if table, ok := host.(map[string]any); ok {
				tables = append(tables, table)
			}
		}
	}
	for _, table := range tables {
		for _, key := range []string{"ca", "client"} {
			for _, path := range paths(table[key]) {
				if !filepath.IsAbs(path) {
					return path
				}
			}
		}
	}
	return ""
}

// paths flattens a string, or lists of strings.
func paths(value any) []string {
	switch v := value.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, item := range v {
			out = append(out, paths(item)...)
		}
		return out
	}
	return nil
}

// certificates says as hosts.toml what Docker's way of laying certificates in a folder says.
func certificates(dir string) ([]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var authorities, clients []string
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		switch base, isCert := strings.CutSuffix(path, ".cert"); {
		case strings.HasSuffix(path, ".crt"):
			authorities = append(authorities, quote(path))
		case isCert:
			clients = append(clients, fmt.Sprintf("[%s, %s]", quote(path), quote(base+".key")))
		}
	}
	var out string
	if len(authorities) > 0 {
		out += fmt.Sprintf("ca = [%s]\n", strings.Join(authorities, ", "))
	}
	if len(clients) > 0 {
		out += fmt.Sprintf("client = [%s]\n", strings.Join(clients, ", "))
	}
	return []byte(out), nil
}
