package offline

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

const (
	// reviewsKept is for how long a decision is remembered.
	reviewsKept = 5 * time.Minute
	// maxReviews bounds how many are, for each caller and in all, and maxReview how large one may be: any pod may ask anything.
	maxReviews, maxCallerReviews, maxReview = 1024, 128, 8 << 10
)

// reviewKinds are the reviews, by resource: who somebody is, and what somebody may do.
var reviewKinds = map[scope.Resource]string{
	{Group: "authentication.k8s.io", Version: "v1", Resource: "tokenreviews"}:             "TokenReview",
	{Group: "authentication.k8s.io", Version: "v1", Resource: "selfsubjectreviews"}:       "SelfSubjectReview",
	{Group: "authorization.k8s.io", Version: "v1", Resource: "subjectaccessreviews"}:      "SubjectAccessReview",
	{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"}:  "SelfSubjectAccessReview",
	{Group: "authorization.k8s.io", Version: "v1", Resource: "localsubjectaccessreviews"}: "LocalSubjectAccessReview",
}

func isReview(req request.Request) bool {
	return reviewKinds[req.Resource] != "" && req.Verb == "create" && req.Subresource == ""
}

// reviews remembers decisions for a short time, by a hash of the question. They are in memory only: after a restart nobody is
// allowed anything.
type reviews struct {
	mu        sync.Mutex // guards decisions
	decisions map[[32]byte]decision
}

type decision struct {
	caller string
	answer scope.Item
	at     time.Time
}

// question is the hash of who asks what.
func question(req request.Request, caller Caller, body map[string]any) ([32]byte, error) {
	raw, err := json.Marshal([]any{caller.Name, req.Resource, req.Namespace, body["spec"]}) // maps are written sorted
	return sha256.Sum256(raw), err
}

// put remembers a decision, in the place of the caller's oldest if it has many, or of the oldest of all.
func (v *reviews) put(q [32]byte, d decision) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.drop(maxCallerReviews, func(old decision) bool { return old.caller == d.caller })
	v.drop(maxReviews, func(decision) bool { return true })
	v.decisions[q] = d
}

// drop forgets the oldest of some decisions if there are so many.
func (v *reviews) drop(limit int, some func(decision) bool) {
	var oldest [32]byte
	n := 0
	for q, d := range v.decisions {
		if !some(d) {
			continue
		}
		if n++; n == 1 || d.at.Before(v.decisions[oldest].at) {
			oldest = q
		}
	}
	if n >= limit {
		delete(v.decisions, oldest)
	}
}

// get gives a decision that is not too old. A clock that went back makes it old, too.
func (v *reviews) get(q [32]byte, now time.Time) (decision, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	d, ok := v.decisions[q]
	age := now.Sub(d.at)
	return d, ok && age >= 0 && age < reviewsKept
}

func (v *reviews) sweep(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for q, d := range v.decisions {
		if age := now.Sub(d.at); age < 0 || age >= reviewsKept {
			delete(v.decisions, q)
		}
	}
}

// review answers who somebody is, or what somebody may do: as upstream answered a moment ago, or not at all. Not to answer is to
// refuse: whoever asked then allows nothing.
func (h *Handler) review(w http.ResponseWriter, r *http.Request, req request.Request, caller Caller) error {
	item, body, err := readObject(w, r, req.Resource.GroupVersion(), reviewKinds[req.Resource], maxQuestion)
	if err != nil {
		return err
	}
	if caller.Node {
		if answer := h.kubelet.review(item.Kind, body, h.cfg.Node); answer != nil {
			return h.answerObject(w, r, req, http.StatusCreated, answer)
		}
	}
	q, err := question(req, caller, clean(body))
	if err != nil {
		return err
	}
	d, ok := h.reviews.get(q, h.cfg.Now())
	if !ok {
		return h.unavailable(req, "only upstream can decide it, and it has not done so in the last five minutes")
	}
	h.age(w, d.at)
	return h.one(w, r, req, http.StatusCreated, d.answer)
}

// rememberReview remembers a decision.
func (h *Handler) rememberReview(req request.Request, caller Caller, e Exchange) error {
	if len(e.Request) > maxQuestion || len(e.Response) > maxReview {
		return nil
	}
	item, err := objectOf(e.RequestType, e.Request, req.Resource.GroupVersion(), reviewKinds[req.Resource])
	if err != nil {
		return err
	}
	body, err := decodeClean(item)
	if err != nil {
		return err
	}
	q, err := question(req, caller, body)
	if err != nil {
		return err
	}
	answer, err := objectOf(e.ResponseType, slices.Clone(e.Response), req.Resource.GroupVersion(), reviewKinds[req.Resource])
	if err != nil {
		return err
	}
	h.reviews.put(q, decision{caller: caller.Name, answer: answer, at: h.cfg.Now()})
	return nil
}
