package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

const (
	// denialTime is how long a denial holds without being asked again: a secret may just have been corrected.
	denialTime = 10 * time.Second
	// maxFresh bounds what is remembered of decisions in memory. Forgetting one costs a question.
	maxFresh = 4096
	// askTime ends a question that its asker may have left.
	askTime = 2 * time.Minute
)

// grant is permission to read a repository.
type grant struct {
	// credential is what upstream serves the repository to; zero if it is public.
	credential upstream.Credential
	// asked: upstream was asked for the very thing just now, has it, and described it.
	asked      bool
	descriptor oci.Descriptor
}

// allow finds out whether the caller may read what it asks for. Upstream decides, when it can be asked: first what it would show to
// nobody in particular, then what it would show to the caller. When it cannot, what it decided last counts. A challenge is given only for
// what upstream does not show to everybody: a pull secret goes to whoever asks for it.
func (c *call) allow() (grant, error) {
	credential, credentialErr := credentialOf(c.r)
	public, publicErr := c.decide(c.ctx, c.target, upstream.Credential{})
	if publicErr == nil {
		return public, nil
	}
	switch {
	case credentialErr != nil && isDenial(publicErr):
		return grant{}, credentialErr
	case credentialErr != nil:
		return grant{}, publicErr
	case credential.IsZero() && isDenial(publicErr):
		return grant{}, unauthorized(fmt.Sprintf("%s/%s is private", c.target.ref.Registry, c.target.ref.Repository))
	case credential.IsZero():
		return grant{}, publicErr
	}
	private, err := c.decide(c.ctx, c.target, credential)
	switch {
	case err == nil && private.asked && errors.Is(publicErr, upstream.NotFound):
		// A registry that hides what is private: who comes without a secret must be asked for one from now on.
		c.record(c.ctx, c.target.ref, Key{}, Denied)
		return private, nil
	case errors.Is(err, upstream.Unavailable) && isDenial(publicErr):
		return grant{}, unauthorized(fmt.Sprintf("%s/%s is private, and whether this credential may read it cannot be asked now: %v", c.target.ref.Registry, c.target.ref.Repository, err))
	}
	return private, err
}

// Check asks upstream whether it serves an image to whoever has a credential, and keeps the answer: what is checked while the node is
// online can be pulled when it is not. The secrets of pods that are bound to the node are checked so, on sight.
func (h *Handler) Check(ctx context.Context, ref oci.Reference, credential upstream.Credential) (Decision, error) {
	t := target{kind: Manifest, ref: ref}
	_, publicErr := h.decide(ctx, t, upstream.Credential{})
	if publicErr == nil {
		return Allowed, nil
	}
	if credential.IsZero() {
		return decisionOf(publicErr)
	}
	private, err := h.decide(ctx, t, credential)
	if err == nil && private.asked && errors.Is(publicErr, upstream.NotFound) {
		h.record(ctx, ref, Key{}, Denied)
	}
	return decisionOf(err)
}

func decisionOf(err error) (Decision, error) {
	switch {
	case err == nil:
		return Allowed, nil
	case isDenial(err):
		return Denied, nil
	}
	return Undecided, err
}

func isDenial(err error) bool {
	return errors.Is(err, upstream.Unauthorized) || errors.Is(err, upstream.Denied)
}

// decide says whether upstream serves a repository to whoever has a credential. The error is upstream's.
func (h *Handler) decide(ctx context.Context, t target, credential upstream.Credential) (grant, error) {
	key := h.key(credential)
	switch decision := h.fresh.get(keyOf(t.ref, key), h.cfg.Now()); {
	case decision == Allowed:
		return grant{credential: credential}, nil
	case decision == Denied:
		return grant{}, fmt.Errorf("%s/%s: %w, as it said just now", t.ref.Registry, t.ref.Repository, upstream.Unauthorized)
	}
	descriptor, err := h.ask(ctx, t, credential, key)
	switch {
	case err == nil:
		h.record(ctx, t.ref, key, Allowed)
		return grant{credential, true, descriptor}, nil
	case isDenial(err):
		h.record(ctx, t.ref, key, Denied)
		return grant{}, err
	case errors.Is(err, upstream.NotFound), ctx.Err() != nil:
		// Not there, or hidden from this caller: what was decided earlier must not open it.
		return grant{}, err
	}
	switch kept, keptErr := h.kept(ctx, t.ref, key); {
	case keptErr != nil:
		return grant{}, keptErr
	case kept == Allowed:
		return grant{credential: credential}, nil
	case kept == Denied:
		return grant{}, fmt.Errorf("%s/%s: %w, as it said when it was asked last", t.ref.Registry, t.ref.Repository, upstream.Unauthorized)
	}
	return grant{}, err
}

// kept is what was decided last, however long ago.
func (h *Handler) kept(ctx context.Context, ref oci.Reference, key Key) (Decision, error) {
	kept, err := h.cfg.Meta.Decision(ctx, ref, key)
	if errors.Is(err, ErrNotKept) {
		return Undecided, nil
	}
	return kept, err
}

// ask asks upstream for the very thing that a caller wants. Callers that ask the same at once share the answer; one that leaves does
// not take it from the others.
func (h *Handler) ask(ctx context.Context, t target, credential upstream.Credential, key Key) (oci.Descriptor, error) {
	question := string(t.kind) + " " + t.ref.String() + " " + string(key[:])
	answer := h.asks.DoChan(question, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
		defer cancel()
		if t.kind == Manifest {
			return h.cfg.Upstream.Head(ctx, t.ref, credential)
		}
		size, err := h.cfg.Upstream.HeadBlob(ctx, t.ref, credential)
		return oci.Descriptor{Digest: t.ref.Digest, Size: size}, err
	})
	select {
	case <-ctx.Done():
		return oci.Descriptor{}, ctx.Err()
	case result := <-answer:
		return result.Val.(oci.Descriptor), result.Err
	}
}

// record keeps a decision. It is written only when it changes something: an allowance that is new or gone, and that nobody may read what
// is private. Denials of credentials that were never allowed are not, or whoever can connect could fill the disk.
func (h *Handler) record(ctx context.Context, ref oci.Reference, key Key, decision Decision) {
	lasts := h.cfg.Fresh
	if decision == Denied {
		lasts = denialTime
	}
	now := h.cfg.Now()
	h.fresh.set(keyOf(ref, key), fresh{decision, now.Add(lasts)}, now)
	kept, err := h.kept(ctx, ref, key)
	if err == nil && kept != decision && (decision == Allowed || key == Key{} || kept == Allowed) {
		err = h.cfg.Meta.SetDecision(context.WithoutCancel(ctx), ref, key, decision)
	}
	h.notKept(ref, "who may read it", err)
}

// notKept tells that something could not be kept, as on a full disk. What was decided holds all the same: it is missing only when
// nobody can be asked.
func (h *Handler) notKept(ref oci.Reference, what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		h.log.Error("the mirror cannot keep what it learned, and will miss it when the registry cannot be asked", "name", ref.String(), "what", what, "error", err)
	}
}

// withdrawn is called with what upstream said to a caller who had been allowed. If it denied, that is kept.
func (c *call) withdrawn(g grant, err error) error {
	if isDenial(err) {
		c.record(c.ctx, c.target.ref, c.key(g.credential), Denied)
	}
	return err
}

// offline is whether a caller may read what is kept of a repository, without asking.
func (c *call) offline(credential upstream.Credential) error {
	public, err := c.kept(c.ctx, c.target.ref, Key{})
	if err != nil || public == Allowed {
		return err
	}
	if !credential.IsZero() {
		if private, err := c.kept(c.ctx, c.target.ref, c.key(credential)); err != nil || private == Allowed {
			return err
		}
	}
	if public == Denied {
		return unauthorized(fmt.Sprintf("%s/%s is private", c.target.ref.Registry, c.target.ref.Repository))
	}
	return &refusal{status: http.StatusNotFound, code: codeNameUnknown, message: fmt.Sprintf("%s/%s was never read through this mirror, and its registry cannot be asked now", c.target.ref.Registry, c.target.ref.Repository)}
}

// decisionKey is a repository and a credential.
type decisionKey struct {
	registry, repository string
	key                  Key
}

func keyOf(ref oci.Reference, key Key) decisionKey {
	return decisionKey{ref.Registry, ref.Repository, key}
}

// fresh is a decision that need not be asked for again until then.
type fresh struct {
	decision Decision
	until    time.Time
}

// freshness holds decisions that were made just now.
type freshness struct {
	mu sync.Mutex // guards at
	at map[decisionKey]fresh
}

func (f *freshness) get(key decisionKey, now time.Time) Decision {
	f.mu.Lock()
	defer f.mu.Unlock()
	if found, ok := f.at[key]; ok && now.Before(found.until) {
		return found.decision
	}
	return Undecided
}

func (f *freshness) set(key decisionKey, decision fresh, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.at) >= maxFresh {
		for key, old := range f.at {
			if !now.Before(old.until) {
				delete(f.at, key)
			}
		}
		if len(f.at) >= maxFresh {
			clear(f.at)
		}
	}
	f.at[key] = decision
}
