package offline

import (
	"net/http"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/rewrite"
)

// moves remembers which pods have new addresses since the link went down, and which of them each client was told of. A client
// that resumes a watch is told only what is new: to be told twice that a slice goes and comes back would hurt Services.
type moves struct {
	mu      sync.Mutex // guards what follows
	count   uint64
	pods    map[string]move // by UID
	told    map[string]uint64
	changed chan struct{} // closed and replaced at each move
}

type move struct {
	count  uint64
	change rewrite.Change
}

// maxTold bounds how many clients are remembered. Beyond it a client is told twice.
const maxTold = 1024

func newMoves() *moves {
	return &moves{pods: map[string]move{}, told: map[string]uint64{}, changed: make(chan struct{})}
}

func (m *moves) add(c rewrite.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count++
	m.pods[c.UID] = move{m.count, c}
	close(m.changed)
	m.changed = make(chan struct{})
}

// forget is for when the link is back: the cluster's own word counts again.
func (m *moves) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.pods)
	clear(m.told)
}

// now gives the count of moves, and a channel that is closed at the next.
func (m *moves) now() (uint64, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count, m.changed
}

// after gives the moves after a count, and how many there are now.
func (m *moves) after(count uint64) (changes []rewrite.Change, now uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, move := range m.pods {
		if move.count > count {
			changes = append(changes, move.change)
		}
	}
	return changes, m.count
}

// tell notes that a client knows of all moves up to a count.
func (m *moves) tell(client string, count uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.told[client]; ok || len(m.told) < maxTold {
		m.told[client] = max(count, m.told[client])
	}
}

func (m *moves) toldTo(client string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.told[client]
}

// clientOf names a client's view of a collection: the same program asks for the same collection again.
func clientOf(r *http.Request, req request.Request, caller Caller) string {
	return caller.Name + "\x00" + r.UserAgent() + "\x00" + req.Path + "\x00" + req.Options.Labels + "\x00" + req.Options.Fields
}

// local is what a watch learns of changes that were made on this node. Its channels are nil where nothing can change.
type local struct {
	h        *Handler
	statuses <-chan struct{}
	change   uint64 // of statuses
	moved    <-chan struct{}
	count    uint64 // of moves
	client   string
	began    struct {
		statuses      <-chan struct{}
		change, count uint64
	}
}

// listen begins to listen. What was written before is sent, too, unless caughtUp says that the client has it. Clients that take no
// bookmarks are not told of statuses: the objects' versions would take them back.
func (l *local) listen(h *Handler, r *http.Request, req request.Request, caller Caller, bookmarks bool) {
	l.h = h
	v := h.seenBy(caller, req.Resource)
	if v.statuses != "" && bookmarks {
		l.began.statuses = h.cfg.Outbox.Changed()
		_, l.began.change = h.cfg.Outbox.Statuses(^uint64(0))
		l.statuses = closed()
	}
	if v.rewrites && req.Resource.Resource != "configmaps" {
		l.client = clientOf(r, req, caller)
		l.began.count, _ = h.moves.now()
		l.moved = closed()
		l.count = h.moves.toldTo(l.client)
	}
}

// closed is a channel that is ready: there may be something to send at once.
func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// caughtUp says that the client was sent the objects as they were when listen was called, or newer.
func (l *local) caughtUp() {
	if l.statuses != nil {
		l.statuses, l.change = l.began.statuses, l.began.change
	}
	if l.moved != nil {
		l.count = l.began.count
		l.h.moves.tell(l.client, l.count)
	}
}

// mute ends listening: the client knows newer objects than the cache, and must not be sent these.
func (l *local) mute() { l.statuses, l.moved = nil, nil }

// takeStatuses gives the statuses that were written since the last time.
func (l *local) takeStatuses() []outbox.Status {
	l.statuses = l.h.cfg.Outbox.Changed()
	written, newest := l.h.cfg.Outbox.Statuses(l.change)
	l.change = newest
	return written
}

// takeMoves gives the moves since the last time.
func (l *local) takeMoves() []rewrite.Change {
	_, l.moved = l.h.moves.now()
	changes, now := l.h.moves.after(l.count)
	l.count = now
	l.h.moves.tell(l.client, now)
	return changes
}
