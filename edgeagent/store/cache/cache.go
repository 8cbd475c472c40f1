package cache

import (
	"context"
	"iter"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Cache is an open cache. Its methods are safe for concurrent use.
type Cache struct{}

// Open opens the cache in dir, or makes it. It never fails because of what the file holds: what is damaged is set aside as
// cache.db.damaged, and what of it can be proved whole is kept. See Condition.
func Open(dir string, o Options) (*Cache, error) { return &Cache{}, nil }

// Close writes what is in memory and closes the file. It may be called twice.
func (c *Cache) Close() error { return nil }

// Replace puts a whole list in a scope's place. It never waits; reads see it at once. The items' bytes are kept until they are
// written and must not be changed.
func (c *Cache) Replace(key scope.Key, kind scope.Kind, version string, items []scope.Item) {}

// Apply takes a scope to version by events. Events that are not newer than the scope are skipped; a scope that is unknown or
// dirty stays as it is. It never waits; reads see it at once.
func (c *Cache) Apply(key scope.Key, version string, events []scope.Event) {}

// Advance says that the scope is complete as of version: a bookmark. It is remembered in memory and written with the next change.
func (c *Cache) Advance(key scope.Key, version string) {}

// Put sets the one object of a GET's scope.
func (c *Cache) Put(key scope.Key, item scope.Item) {}

// Forget removes one scope: the object is gone, or this very query was refused.
func (c *Cache) Forget(key scope.Key) {}

// Drop removes all scopes that an identity has of a resource in exactly that namespace, because upstream refuses them now. "" are the
// scopes of all namespaces. If only one object was refused, use Forget.
func (c *Cache) Drop(identity string, r scope.Resource, namespace string) {}

// Dirty marks a scope as behind what upstream sent. It stays a complete, older state, and takes no events until it is replaced.
func (c *Cache) Dirty(key scope.Key, why string) {}

// Info says what a scope is worth.
func (c *Cache) Info(key scope.Key) (scope.Info, bool) { return scope.Info{}, false }

// Scopes gives the scopes that an identity has of a resource. With r zero: of all resources; with identity "": of all.
func (c *Cache) Scopes(identity string, r scope.Resource) []scope.Info { return nil }

// Read calls f with one consistent state of a scope, its items in order of namespace and name. If any item cannot be read,
// f is not called. Items are valid until f returns: copy what is kept. f may take its time, but not for ever: the file
// cannot reuse pages that f may still read.
func (c *Cache) Read(key scope.Key, f func(scope.Info, iter.Seq2[scope.Item, error]) error) error {
	return ErrUnknown
}

// Get gives one object of a scope. What it gives is the caller's. An object that is not in the scope is no error.
func (c *Cache) Get(key scope.Key, namespace, name string) (scope.Item, bool, error) {
	return scope.Item{}, false, ErrUnknown
}

// Document gives a document by the path (with query) it was read from.
func (c *Cache) Document(identity, path string) (Document, bool, error) {
	return Document{}, false, nil
}

// PutDocument keeps a document. One whose ETag and body are as before is not written. Nil Body removes it. It never waits.
func (c *Cache) PutDocument(identity, path string, d Document) {}

// Token gives a kept token answer.
func (c *Cache) Token(key string) ([]byte, bool, error) { return nil, false, nil }

// PutToken keeps a token answer, sealed; nil removes it. One that only renews another waits in memory for the next write. It never waits.
func (c *Cache) PutToken(key string, raw []byte) {}

// Enqueue puts a value in the outbox. When it has returned without an error the value is on disk; callers at the same time
// share a flush. A value of the same bucket and key is replaced. After an error, also of ctx, it may or may not be stored.
func (c *Cache) Enqueue(ctx context.Context, bucket, key string, value []byte) error { return nil }

// Pending gives the values of a bucket in the order in which they were enqueued.
func (c *Cache) Pending(bucket string) iter.Seq2[Queued, error] {
	return func(func(Queued, error) bool) {}
}

// Waiting gives the value that waits under one key.
func (c *Cache) Waiting(bucket, key string) (Queued, bool, error) { return Queued{}, false, nil }

// Done removes a value that was replayed, unless a newer one has taken its place. After a crash it may be replayed once more.
func (c *Cache) Done(bucket, key string, seq uint64) {}

// Flush writes all that is in memory, versions and heartbeats too, and waits for it.
func (c *Cache) Flush(ctx context.Context) error { return nil }

// Newest is the wall clock, or the newest time at which upstream confirmed anything if that is later: a clock that is behind
// does not make expired tokens valid.
func (c *Cache) Newest() time.Time { return time.Time{} }

// Stats says how large things are.
func (c *Cache) Stats() Stats { return Stats{} }

// Condition sums up whether the cache is well: one of the Reasons, and a sentence.
func (c *Cache) Condition() (reason, message string) { return ReasonCached, "" }
