//go:build e2e

package autonomy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// markKey is the annotation in which the writer numbers its writes; the same number is in the object's data.
const markKey = "history.example.com/mark"

// version is one version of one object.
type version struct {
	name, uid, mark string
	number          uint64 // its resourceVersion
	lane            string // a label that the writer changes
	special         bool   // a Secret of the type that some clients select
}

// step is one thing that a client was told.
type step struct {
	kind    string // Replace, Set, Delete or Reached
	number  uint64 // the version that the client knows after it
	objects []version
}

// recorder is what a reflector keeps its objects in. It writes down all that it is told, in order.
type recorder struct {
	name string
	// selects tells what the client asked for.
	selects func(version) bool

	mu    sync.Mutex // guards what follows
	steps []step
	state map[string]version
	errs  []error
}

func newRecorder(name string, selects func(version) bool) *recorder {
	return &recorder{name: name, selects: selects, state: map[string]version{}}
}

// note writes a step down.
func (r *recorder) note(kind, number string, objects ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := step{kind: kind}
	for _, o := range objects {
		v, err := versionOf(o)
		if err != nil {
			r.errs = append(r.errs, err)
		}
		s.objects = append(s.objects, v)
		s.number = v.number
	}
	if number != "" {
		var err error
		if s.number, err = strconv.ParseUint(number, 10, 64); err != nil {
			r.errs = append(r.errs, fmt.Errorf("%s at version %q: %w", kind, number, err))
		}
	}
	s.apply(r.state)
	r.steps = append(r.steps, s)
	return nil
}

// Add, Update, Delete, Replace, Resync and UpdateResourceVersion are what a reflector calls.

func (r *recorder) Add(o any) error    { return r.note("Set", "", o) }
func (r *recorder) Update(o any) error { return r.note("Set", "", o) }
func (r *recorder) Delete(o any) error { return r.note("Delete", "", o) }
func (r *recorder) Replace(objects []any, resourceVersion string) error {
	return r.note("Replace", resourceVersion, objects...)
}
func (r *recorder) Resync() error { return nil }
func (r *recorder) UpdateResourceVersion(resourceVersion string) {
	_ = r.note("Reached", resourceVersion)
}

// apply does to a client's state what a step says.
func (s step) apply(state map[string]version) {
	switch s.kind {
	case "Replace":
		clear(state)
		fallthrough
	case "Set":
		for _, v := range s.objects {
			state[v.name] = v
		}
	case "Delete":
		delete(state, s.objects[0].name)
	}
}

// reached gives the version that the client knows.
func (r *recorder) reached() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.steps) == 0 {
		return 0
	}
	return r.steps[len(r.steps)-1].number
}

// versionOf reads an object as a client has it, and checks that its parts are of one write.
func versionOf(o any) (version, error) {
	m, err := meta.Accessor(o)
	if err != nil {
		return version{}, err
	}
	v := version{name: m.GetNamespace() + "/" + m.GetName(), uid: string(m.GetUID()), mark: m.GetAnnotations()[markKey], lane: m.GetLabels()["lane"]}
	if v.number, err = strconv.ParseUint(m.GetResourceVersion(), 10, 64); err != nil {
		return v, fmt.Errorf("object %s: %w", v.name, err)
	}
	inside := v.mark
	switch o := o.(type) {
	case *corev1.ConfigMap:
		inside = o.Data["mark"]
	case *corev1.Secret:
		inside, v.special = string(o.Data["mark"]), o.Type == specialType
	case *unstructured.Unstructured:
		inside, _, err = unstructured.NestedString(o.Object, "spec", "mark")
	case *metav1.PartialObjectMetadata:
	default:
		err = fmt.Errorf("a %T was not expected", o)
	}
	if err == nil && inside != v.mark {
		err = fmt.Errorf("object %s at version %d is of write %q and of write %q", v.name, v.number, v.mark, inside)
	}
	return v, err
}

// check holds what a client was told against the truth: at each version that it reached it had what upstream had, and it never went back.
// At most a few of what is wrong are told.
func (r *recorder) check(truth []step) (wrong []error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wrong = slices.Clone(r.errs)
	state, real := map[string]version{}, map[string]version{}
	var at uint64
	for i, s := range r.steps {
		fail := func(format string, args ...any) {
			wrong = append(wrong, fmt.Errorf("%s, step %d of %d, %s at version %d: %s", r.name, i, len(r.steps), s.kind, s.number, fmt.Sprintf(format, args...)))
		}
		if s.number < at || s.number == at && (s.kind == "Set" || s.kind == "Delete") {
			fail("it went back from version %d", at)
			return wrong
		}
		if names := namesOf(s.objects); len(names) != len(s.objects) {
			fail("of %d objects only %d are different ones", len(s.objects), len(names))
		}
		s.apply(state)
		at = s.number
		truth = forward(real, truth, at, r.selects)
		if lacks := difference(state, real); lacks != "" {
			fail("%s", lacks)
		}
		if len(wrong) > 3 {
			return wrong
		}
	}
	return wrong
}

func namesOf(objects []version) map[string]bool {
	names := map[string]bool{}
	for _, o := range objects {
		names[o.name] = true
	}
	return names
}

// forward brings the real state to a version, and gives the steps that are later.
func forward(real map[string]version, truth []step, to uint64, selects func(version) bool) []step {
	for len(truth) > 0 && truth[0].number <= to {
		truth[0].apply(real)
		for _, v := range truth[0].objects {
			if !selects(v) {
				delete(real, v.name)
			}
		}
		truth = truth[1:]
	}
	return truth
}

// difference says how two states differ, "" if they do not.
func difference(have, want map[string]version) string {
	if maps.EqualFunc(have, want, sameVersion) {
		return ""
	}
	var lines []string
	for name, v := range have {
		if w, ok := want[name]; !ok {
			lines = append(lines, fmt.Sprintf("it has %s at version %d, which is not there", name, v.number))
		} else if !sameVersion(v, w) {
			lines = append(lines, fmt.Sprintf("it has %s at version %d (write %s), and should at %d (write %s)", name, v.number, v.mark, w.number, w.mark))
		}
	}
	for name, w := range want {
		if _, ok := have[name]; !ok {
			lines = append(lines, fmt.Sprintf("it lacks %s at version %d", name, w.number))
		}
	}
	slices.Sort(lines)
	raw, err := json.Marshal(lines[:min(len(lines), 5)])
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d of %d objects are wrong: %s", len(lines), len(want), raw)
}

func sameVersion(a, b version) bool {
	return a.name == b.name && a.uid == b.uid && a.number == b.number && a.mark == b.mark && a.lane == b.lane
}
