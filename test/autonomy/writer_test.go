//go:build e2e

package autonomy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	// specialType is the type of some Secrets, by which clients select them.
	specialType = corev1.SecretType("history.example.com/special")
	// writtenObjects is how many objects of each kind there are at most, of which so many are always there.
	writtenObjects, lastingObjects = 30, 4
	// writePause is the pause between two writes.
	writePause = 10 * time.Millisecond
)

var (
	tills = schema.GroupVersionResource{Group: "shop.example.com", Version: "v1", Resource: "tills"}
	lanes = []string{"left", "right", "middle"}
)

// writer changes objects straight at the API server, one after the other.
type writer struct {
	typed   kubernetes.Interface
	dynamic dynamic.Interface
	random  *rand.Rand

	writes atomic.Int64

	mu      sync.Mutex // guards written
	written map[string]map[uint64]string
}

func newWriter(cfg *rest.Config, random *rand.Rand) (*writer, error) {
	typed, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	dyn, err := dynamic.NewForConfig(cfg)
	return &writer{typed: typed, dynamic: dyn, random: random, written: map[string]map[uint64]string{}}, err
}

// run writes until ctx ends.
func (w *writer) run(ctx context.Context) error {
	tick := time.NewTicker(writePause)
	defer tick.Stop()
	for {
		if err := w.write(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// write does one thing to one object: mostly it changes it, and sometimes it deletes it or moves it to another lane.
func (w *writer) write(ctx context.Context) error {
	n := w.random.IntN(writtenObjects)
	kind := []string{"configmaps", "secrets", "tills"}[w.random.IntN(3)]
	lane := lanes[w.random.IntN(len(lanes))]
	if n < lastingObjects {
		lane = lanes[0]
	}
	mark := strconv.FormatInt(w.writes.Add(1), 10)
	var err error
	if n >= lastingObjects && w.random.IntN(4) == 0 {
		err = w.delete(ctx, kind, n)
	} else {
		err = w.put(ctx, kind, n, lane, mark)
	}
	if err != nil {
		return fmt.Errorf("write %s of %s %d: %w", mark, kind, n, err)
	}
	return nil
}

func (w *writer) delete(ctx context.Context, kind string, n int) error {
	name := fmt.Sprintf("o-%d", n)
	var err error
	switch kind {
	case "configmaps":
		err = w.typed.CoreV1().ConfigMaps("shop").Delete(ctx, name, metav1.DeleteOptions{})
	case "secrets":
		err = w.typed.CoreV1().Secrets("shop").Delete(ctx, name, metav1.DeleteOptions{})
	default:
		err = w.dynamic.Resource(tills).Namespace("shop").Delete(ctx, name, metav1.DeleteOptions{})
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// put makes an object, or changes it if it is there.
func (w *writer) put(ctx context.Context, kind string, n int, lane, mark string) error {
	m := metav1.ObjectMeta{Name: fmt.Sprintf("o-%d", n), Namespace: "shop", Labels: map[string]string{"lane": lane}, Annotations: map[string]string{markKey: mark}}
	var now metav1.Object
	var err error
	switch kind {
	case "configmaps":
		o := &corev1.ConfigMap{ObjectMeta: m, Data: map[string]string{"mark": mark}}
		if now, err = w.typed.CoreV1().ConfigMaps("shop").Update(ctx, o, metav1.UpdateOptions{}); apierrors.IsNotFound(err) {
			now, err = w.typed.CoreV1().ConfigMaps("shop").Create(ctx, o, metav1.CreateOptions{})
		}
	case "secrets":
		o := &corev1.Secret{ObjectMeta: m, Data: map[string][]byte{"mark": []byte(mark)}}
		if n%2 == 0 {
			o.Type = specialType
		}
		if now, err = w.typed.CoreV1().Secrets("shop").Update(ctx, o, metav1.UpdateOptions{}); apierrors.IsNotFound(err) {
			now, err = w.typed.CoreV1().Secrets("shop").Create(ctx, o, metav1.CreateOptions{})
		}
	default:
		now, err = w.putTill(ctx, m, mark)
	}
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(now.GetResourceVersion(), 10, 64)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.written[kind] == nil {
		w.written[kind] = map[uint64]string{}
	}
	w.written[kind][number] = mark
	return err
}

// putTill is put for the custom resource, which is only updated by who names the version.
func (w *writer) putTill(ctx context.Context, m metav1.ObjectMeta, mark string) (metav1.Object, error) {
	at := w.dynamic.Resource(tills).Namespace("shop")
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "shop.example.com/v1", "kind": "Till", "spec": map[string]any{"mark": mark}}}
	o.SetName(m.Name)
	o.SetLabels(m.Labels)
	o.SetAnnotations(m.Annotations)
	was, err := at.Get(ctx, m.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return at.Create(ctx, o, metav1.CreateOptions{})
	}
	if err != nil {
		return nil, err
	}
	o.SetResourceVersion(was.GetResourceVersion())
	return at.Update(ctx, o, metav1.UpdateOptions{})
}

// confirm says what the truth lacks of what was written since it begins.
func (w *writer) confirm(kind string, truth []step) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[uint64]string{}
	for _, s := range truth {
		for _, v := range s.objects {
			if s.kind != "Delete" {
				seen[v.number] = v.mark
			}
		}
	}
	var errs []error
	for number, mark := range w.written[kind] {
		if number > truth[0].number && seen[number] != mark {
			errs = append(errs, fmt.Errorf("the direct client did not see write %s of %s, version %d", mark, kind, number))
		}
	}
	return errors.Join(errs...)
}
