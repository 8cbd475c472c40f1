//go:build e2e

package autonomy

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/pager"
	"k8s.io/klog/v2"
)

// counted counts the answers that are served offline.
func (h *histories) counted(cfg *rest.Config) *rest.Config {
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if err == nil && resp.Header.Get("Holdfast-Cache-Age") != "" {
				h.offline.Add(1)
			}
			return resp, err
		})
	})
	return cfg
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// reflect runs client-go's reflector, with its defaults, but for the pauses if they are given: by default they grow to half a minute.
func (h *histories) reflect(ctx context.Context, r *recorder, source cache.ListerWatcher, backoff *wait.Backoff) {
	quiet := logr.Discard()
	reflector := cache.NewReflectorWithOptions(source, nil, r, cache.ReflectorOptions{Name: r.name, Logger: &quiet, Backoff: backoff})
	h.work.Go(func() { reflector.RunWithContext(klog.NewContext(ctx, quiet)) })
}

// list lists again and again. Each list is whole, and none is older than the one before if the agent was the same.
func (h *histories) list(ctx context.Context, name, resource string, selects func(version) bool, source cache.ListerWatcher, page int64) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	fresh := func() witness { return witness{resource, newRecorder("lists, "+name+" "+resource, selects)} }
	r, born := fresh(), h.restarts.Load()
	for {
		before := h.restarts.Load()
		objects, number, err := listOnce(ctx, source, page)
		switch {
		case err != nil:
			h.refused.Add(1)
		default:
			if after := h.restarts.Load(); before != born || after != born {
				r, born = fresh(), after // another life
			}
			_ = r.Replace(objects, number)
			if h.listed.Add(1); len(r.steps) == 1 {
				h.mu.Lock()
				h.lists = append(h.lists, r)
				h.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func listOnce(ctx context.Context, source cache.ListerWatcher, page int64) ([]any, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	p := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return cache.ToListerWatcherWithContext(source).ListWithContext(ctx, o)
	})
	p.PageSize = page
	list, _, err := p.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, "", err
	}
	return itemsOf(list)
}

// typedSource reads a resource of the core group.
func typedSource(c rest.Interface, resource, namespace string, modify func(*metav1.ListOptions)) cache.ListerWatcher {
	if modify == nil {
		return cache.NewListWatchFromClient(c, resource, namespace, fields.Everything())
	}
	return cache.NewFilteredListWatchFromClient(c, resource, namespace, modify)
}

// tillSource reads the custom resource.
func (h *histories) tillSource(cfg *rest.Config, modify func(*metav1.ListOptions)) cache.ListerWatcher {
	h.Helper()
	set, err := dynamic.NewForConfig(cfg)
	h.must(err)
	return dynamicSource(modify, func() dynamic.ResourceInterface { return set.Resource(tills).Namespace("shop") })
}

func dynamicSource(modify func(*metav1.ListOptions), at func() dynamic.ResourceInterface) cache.ListerWatcher {
	if modify == nil {
		modify = func(*metav1.ListOptions) {}
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			modify(&o)
			return at().List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			modify(&o)
			return at().Watch(ctx, o)
		},
	}
}

// metadataSource reads the metadata of ConfigMaps.
func (h *histories) metadataSource(cfg *rest.Config) cache.ListerWatcher {
	h.Helper()
	set, err := metadata.NewForConfig(cfg)
	h.must(err)
	at := set.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace("shop")
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return at.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return at.Watch(ctx, o)
		},
	}
}

// itemsOf gives a list's objects and version.
func itemsOf(list runtime.Object) (objects []any, number string, err error) {
	switch list := list.(type) {
	case *corev1.ConfigMapList:
		for i := range list.Items {
			objects = append(objects, &list.Items[i])
		}
	case *corev1.SecretList:
		for i := range list.Items {
			objects = append(objects, &list.Items[i])
		}
	case *unstructured.UnstructuredList:
		for i := range list.Items {
			objects = append(objects, &list.Items[i])
		}
	case *metainternal.List:
		for _, o := range list.Items {
			objects = append(objects, o)
		}
	default:
		return nil, "", fmt.Errorf("a %T was not expected", list)
	}
	m, ok := list.(metav1.ListInterface)
	if !ok {
		return nil, "", fmt.Errorf("a %T has no version", list)
	}
	return objects, m.GetResourceVersion(), nil
}
