package main

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// watch shows the fleet, and again when something of it changed, at most once in every interval and a tenth of its own time
// at most: reading ten thousand nodes takes a while. While the cluster does not answer it tells trouble and goes on; only
// the first read must succeed. It ends with ctx.
func (s *fleetSource) watch(ctx context.Context, every time.Duration, pool string, show func(*fleetView) error, trouble func(error)) error {
	var shown []byte
	for first := true; ; first = false {
		started := time.Now()
		f, at, err := s.read(ctx, pool)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		case err != nil:
			trouble(err)
			shown = nil
		default:
			text, err := json.Marshal(f)
			if err != nil {
				return err
			}
			if !bytes.Equal(text, shown) {
				shown = text
				if err := show(f); err != nil {
					return err
				}
			}
		}
		if !pause(ctx, max(every, 9*time.Since(started))) {
			return nil
		}
		if err == nil {
			s.awaitNews(ctx, at)
		}
	}
}

// awaitNews returns when something of the fleet changed since at, or may have: a watch ended.
func (s *fleetSource) awaitNews(ctx context.Context, at versions) {
	ctx, cancel := context.WithCancel(ctx)
	var watches sync.WaitGroup
	for _, w := range []struct {
		version string
		request *rest.Request
	}{
		{at.pools, s.fleet.Get().Resource("nodepools")},
		{at.nodes, s.fleet.Get().Resource("edgenodes")},
		{at.kubelets, s.core.Get().Resource("nodes").SetHeader("Accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")},
	} {
		if w.version == "" {
			continue
		}
		watches.Go(func() {
			defer cancel() // the first one to hear something ends the others
			events, err := w.request.VersionedParams(&metav1.ListOptions{Watch: true, ResourceVersion: w.version}, metav1.ParameterCodec).Watch(ctx)
			if err != nil {
				pause(ctx, 5*time.Second)
				return
			}
			defer events.Stop()
			select {
			case <-ctx.Done():
			case <-events.ResultChan():
			}
		})
	}
	watches.Wait()
	cancel()
}

// pause waits and tells whether ctx is still on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
