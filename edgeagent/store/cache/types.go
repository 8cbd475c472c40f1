// Package cache keeps what the autonomy proxy must still know when the node is cut off: what each identity read (scopes),
// whole documents such as discovery, tokens, and the writes that wait for the link (outbox). It is one bbolt file, cache.db, apart
// from state.db: a damaged cache is set aside and rebuilt, and never takes enrolment, trust or plan with it.
//
// Callers are never made to wait for the disk. A change goes into memory, where reads see it at once, and one goroutine
// writes what has come together. Only Enqueue and Flush wait, because their meaning is that something is on disk.
package cache

import (
	"errors"
	"log/slog"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

// What can be wrong. Match with errors.Is.
var (
	// ErrUnknown: there is no such scope.
	ErrUnknown = errors.New("not cached")
	// ErrDamaged: what is on disk is not what was written. The scope is an error until upstream has listed it again.
	ErrDamaged = bolt.ErrDamaged
	// ErrInUse: another process has the file open.
	ErrInUse = bolt.ErrInUse
	// ErrClosed: the cache was closed.
	ErrClosed = errors.New("the cache is closed")
	// ErrOutboxFull: the outbox holds as much as it may; nothing was stored.
	ErrOutboxFull = errors.New("the outbox is full")
)

// Options says how a cache is kept. The zero value of each field is a good one.
type Options struct {
	Log *slog.Logger
	Now func() time.Time
	// Node is the identity whose pods and Secrets are never given up for room: "system:node:N".
	Node string
	// MaxBytes bounds the file. 0: 256 MiB.
	MaxBytes int64
	// MaxPending bounds what waits in memory to be written. 0: 16 MiB.
	MaxPending int64
	// MaxQuiet bounds what is in memory only because it differs from the disk in nothing but heartbeats. 0: 2 MiB.
	MaxQuiet int64
	// MaxDocuments bounds the bytes of all documents. 0: 32 MiB.
	MaxDocuments int64
	// GroupDelay is how long changes are gathered before they are written together. 0: 100 ms.
	GroupDelay time.Duration
	// SealingKeyFile holds the key that Secrets, tokens and the outbox are sealed with. It is made if it is not there. "":
	// cache.key in the cache's folder. A lost key is a damaged cache.
	SealingKeyFile string
	// Rings bounds buckets of the outbox that rather lose their oldest values than refuse new ones, in values.
	Rings map[string]int
	// MaxOutbox bounds the values of all buckets together, in bytes. 0: 16 MiB.
	MaxOutbox int64
	// OnDirty is told of each scope that becomes dirty, in a goroutine of the cache's: it may call the cache.
	OnDirty func(key scope.Key, why string)
	// Step is called at named points of writing, so that tests can end the process there: "taken" (changes were picked up),
	// "committing" (inside the transaction), "committed", and at creation "key", "filled", "renamed", "created".
	Step func(point string)
}

// Document is an answer that is kept whole.
type Document = scope.Document

// Queued is a value of the outbox.
type Queued = scope.Queued

// Stats says how large things are.
type Stats struct {
	Scopes, Objects, Documents, Tokens int
	// Queued counts the outbox's values, Dropped those that its rings lost, by bucket.
	Queued, Dropped map[string]int
	// FileBytes is the length of the file, UsedBytes what of it is in use.
	FileBytes, UsedBytes int64
	// PendingBytes waits in memory to be written; QuietBytes of it differs from the disk in nothing but heartbeats.
	PendingBytes, QuietBytes int64
	// Commits counts transactions since Open: each is two flushes of the disk. Evicted counts scopes and documents given up
	// for room, Dirtied scopes that became dirty.
	Commits, Evicted, Dirtied int64
	LastCommit                time.Duration
}

// Reasons of Condition.
const (
	// ReasonCached: everything is written or on its way.
	ReasonCached = "Cached"
	// ReasonCacheRebuilt: the file was damaged when it was opened and was made anew; what was lost is said.
	ReasonCacheRebuilt = "CacheRebuilt"
	// ReasonCacheDiskFull: there is no room on the disk; the cache goes on in memory, up to its bound.
	ReasonCacheDiskFull = "CacheDiskFull"
	// ReasonCacheWriteFailed: writing goes wrong for another reason.
	ReasonCacheWriteFailed = "CacheWriteFailed"
	// ReasonCacheBehind: scopes are dirty: they are older than what upstream sent.
	ReasonCacheBehind = "CacheBehind"
	// ReasonCacheFull: the bound on the file made the cache give up scopes or documents.
	ReasonCacheFull = "CacheFull"
)
