package discovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
)

const (
	// maxProven and maxHeard bound the addresses that are remembered of a node.
	maxProven = 2
	maxHeard  = 8
	// maxFile bounds the file of proven addresses, maxNodes how many nodes are read from it.
	maxFile  = 256 << 10
	maxNodes = 1024
)

// Book remembers where the pool's nodes may be found. Nothing in it is believed: whoever answers there must prove its key. Addresses where a
// node proved it last are kept on disk, so that a site finds itself again after a power cut without a single announcement. It may be used
// concurrently.
type Book struct {
	path string
	log  *slog.Logger

	mu    sync.Mutex // guards nodes
	nodes map[string]*entry

	writing sync.Mutex // held while the file is written
}

type entry struct {
	declared []string
	// heard are announced addresses and those a node came from, proven those where it was reached, each the newest first.
	heard, proven []netip.AddrPort
}

// OpenBook reads the addresses kept in a file; "" keeps none. A damaged file costs only what was in it, and is said in the log.
func OpenBook(path string, log *slog.Logger) *Book {
	b := &Book{path: path, log: log, nodes: map[string]*entry{}}
	if path == "" {
		return b
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return b
	}
	if err == nil {
		defer f.Close()
		err = b.read(f)
	}
	if err != nil {
		log.Warn("the last known addresses of the pool's nodes are lost", "file", path, "error", err)
	}
	return b
}

// bookFile is the form of the file.
type bookFile struct {
	Nodes map[string][]netip.AddrPort `json:"nodes"`
}

func (b *Book) read(r io.Reader) error {
	raw, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return err
	}
	if len(raw) > maxFile {
		return fmt.Errorf("it is over %d bytes", maxFile)
	}
	nodes, err := parseBook(raw)
	for node, addrs := range nodes {
		b.nodes[node] = &entry{proven: addrs}
	}
	return err
}

func parseBook(raw []byte) (map[string][]netip.AddrPort, error) {
	var file bookFile
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, err
	}
	if len(file.Nodes) > maxNodes {
		return nil, fmt.Errorf("it names over %d nodes", maxNodes)
	}
	for node, addrs := range file.Nodes {
		addrs = slices.DeleteFunc(addrs, func(a netip.AddrPort) bool { return !usable(a.Addr()) || a.Port() == 0 })
		file.Nodes[node] = addrs[:min(len(addrs), maxProven)]
	}
	return file.Nodes, nil
}

// SetNodes says which nodes there are, with the addresses that the fleet repo declares for them as "host:port". All others are forgotten.
func (b *Book) SetNodes(declared map[string][]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for node := range b.nodes {
		if _, ok := declared[node]; !ok {
			delete(b.nodes, node)
		}
	}
	for node, addrs := range declared {
		if b.nodes[node] == nil {
			b.nodes[node] = &entry{}
		}
		b.nodes[node].declared = slices.Clone(addrs)
	}
}

// Candidates are where to look for a node, the likeliest first: declared, then heard, then where it was last.
func (b *Book) Candidates(node string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.nodes[node]
	if e == nil {
		return nil
	}
	all := slices.Clone(e.declared)
	for _, a := range slices.Concat(e.heard, e.proven) {
		if !slices.Contains(all, a.String()) {
			all = append(all, a.String())
		}
	}
	return all
}

// Has tells whether any node was announced, met or reached at a host's address.
func (b *Book) Has(host netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.nodes {
		if slices.ContainsFunc(slices.Concat(e.heard, e.proven), func(a netip.AddrPort) bool { return a.Addr() == host }) {
			return true
		}
	}
	return false
}

// Heard notes addresses that a node announced, or came from. It tells whether any is new.
func (b *Book) Heard(node string, addrs []netip.AddrPort) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.nodes[node]
	if e == nil {
		return false
	}
	news := slices.ContainsFunc(addrs, func(a netip.AddrPort) bool { return !slices.Contains(e.heard, a) })
	e.heard = front(e.heard, addrs, maxHeard)
	return news
}

// Proven notes the address where a node proved its key. It writes the file if the address was not in it. An error is logged: what is lost is
// an address that will be found again.
func (b *Book) Proven(node string, addr netip.AddrPort) {
	if !usable(addr.Addr()) {
		return
	}
	b.mu.Lock()
	e := b.nodes[node]
	if e == nil || slices.Contains(e.declared, addr.String()) {
		b.mu.Unlock()
		return
	}
	known := slices.Contains(e.proven, addr)
	e.proven = front(e.proven, []netip.AddrPort{addr}, maxProven)
	b.mu.Unlock()
	if known || b.path == "" {
		return
	}
	if err := b.write(); err != nil {
		b.log.Warn("the pool's addresses cannot be kept", "file", b.path, "error", err)
	}
}

// front puts addresses before others, without repeating any.
func front(list, first []netip.AddrPort, bound int) []netip.AddrPort {
	var all []netip.AddrPort
	for _, a := range slices.Concat(first, list) {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all[:min(len(all), bound)]
}

// write replaces the file. The last of several at once writes what all of them know.
func (b *Book) write() error {
	b.writing.Lock()
	defer b.writing.Unlock()
	file := bookFile{Nodes: map[string][]netip.AddrPort{}}
	b.mu.Lock()
	for _, node := range slices.Sorted(maps.Keys(b.nodes)) {
		if proven := b.nodes[node].proven; len(proven) > 0 {
			file.Nodes[node] = slices.Clone(proven)
		}
	}
	b.mu.Unlock()
	raw, err := json.Marshal(file)
	if err != nil {
		return err
	}
	return durable.WriteFile(b.path, append(raw, '\n'))
}
