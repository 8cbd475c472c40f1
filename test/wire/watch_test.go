package wire_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	restwatch "k8s.io/client-go/rest/watch"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// events reads a watch stream with client-go.
func (a api) events(t *testing.T, stream []byte) []watch.Event {
	t.Helper()
	reader := a.info.StreamSerializer.NewFrameReader(io.NopCloser(bytes.NewReader(stream)))
	codecs := serializer.WithoutConversionCodecFactory{CodecFactory: a.codecs}
	decoder := restwatch.NewDecoder(streaming.NewDecoder(reader, codecs.DecoderToVersion(a.info.StreamSerializer.Serializer, nil)),
		codecs.DecoderToVersion(a.info.Serializer, nil))
	var all []watch.Event
	for {
		kind, object, err := decoder.Decode()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("client-go cannot read the stream: %v", err)
		}
		all = append(all, watch.Event{Type: kind, Object: object})
	}
}

// TestWatchOfEveryKind scans the frames that kube-apiserver sends, and writes them back.
func TestWatchOfEveryKind(t *testing.T) {
	t.Parallel()
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			api, fill, chance := newAPI(t, e.media), filler(4), rand.New(rand.NewSource(4))
			for _, kind := range kinds(t) {
				version := kind.GroupVersion()
				types := []string{wire.Added, wire.Modified, wire.Deleted}
				var want []runtime.Object
				var stream []byte
				for _, typ := range types {
					object := random(t, fill, kind)
					want = append(want, object)
					stream = append(stream, api.frame(t, typ, object, version)...)
				}
				var raw, written []byte
				seen := 0
				s := wire.NewWatchScanner(e.encoding, wire.Limits{}, func(f wire.Frame) error {
					if f.Type != types[seen] || f.Status != 0 || f.InitialEventsEnd {
						t.Errorf("%s: frame %d is %+v", kind, seen, f)
					}
					checkItem(t, f.Item, want[seen], kind, e.encoding)
					checkAccess(t, f.Item, want[seen])
					raw = append(raw, f.Raw...)
					var err error
					written, err = wire.AppendFrame(written, f.Type, f.Item)
					seen++
					return err
				})
				if err := write(t, s, chance, stream); err != nil {
					t.Fatalf("%s: %v", kind, err)
				}
				if err := s.Close(); err != nil || seen != len(types) {
					t.Fatalf("%s: %d frames, %v", kind, seen, err)
				}
				if !bytes.Equal(raw, stream) {
					t.Fatalf("%s: the frames are\n%q\nof the stream\n%q", kind, raw, stream)
				}
				if !bytes.Equal(written, stream) {
					t.Fatalf("%s: wrote\n%q\nkube-apiserver writes\n%q", kind, written, stream)
				}
			}
		})
	}
}

// TestBookmarkDecodes compares bookmarks with those that kube-apiserver writes, as client-go sees both.
func TestBookmarkDecodes(t *testing.T) {
	t.Parallel()
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			api := newAPI(t, e.media)
			for _, kind := range kinds(t) {
				for _, end := range []bool{false, true} {
					object, err := scheme.Scheme.New(kind)
					if err != nil {
						t.Fatal(err)
					}
					m := object.(metav1.Object)
					m.SetResourceVersion("815")
					if end {
						m.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
					}
					stream := api.frame(t, wire.Bookmark, object, kind.GroupVersion())
					apiVersion := kind.GroupVersion().String()
					got := api.events(t, wire.AppendBookmark(nil, e.encoding, apiVersion, kind.Kind, "815", end))
					if want := api.events(t, stream); !equality.Semantic.DeepEqual(got, want) {
						t.Fatalf("%s: got %+v, want %+v", kind, got, want)
					}
					own := wire.AppendBookmark(nil, e.encoding, apiVersion, kind.Kind, "815", end)
					for _, f := range frames(t, e.encoding, append(stream, own...)) {
						if f.Type != wire.Bookmark || f.Item.Version != "815" || f.InitialEventsEnd != end || f.Item.Kind != kind.Kind || f.Item.APIVersion != apiVersion {
							t.Fatalf("%s: scanned as %+v", kind, f)
						}
					}
				}
			}
		})
	}
}

// frames scans a whole stream.
func frames(t *testing.T, encoding scope.Encoding, stream []byte) []wire.Frame {
	t.Helper()
	var all []wire.Frame
	s := wire.NewWatchScanner(encoding, wire.Limits{}, func(f wire.Frame) error {
		all = append(all, f)
		return nil
	})
	_, err := s.Write(stream)
	if closed := s.Close(); err != nil || closed != nil {
		t.Fatalf("scan %q: %v, %v", stream, err, closed)
	}
	return all
}

// TestErrorFrame: the code must be found in what kube-apiserver sends, and client-go must understand what is written.
func TestErrorFrame(t *testing.T) {
	t.Parallel()
	gone := &metav1.Status{Status: metav1.StatusFailure, Code: 410, Reason: metav1.StatusReasonExpired, Message: "too old"}
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			api := newAPI(t, e.media)
			real := api.frame(t, wire.Error, gone, schema.GroupVersion{Version: "v1"})
			own := wire.AppendErrorFrame(nil, e.encoding, wire.Status{Code: 410, Reason: "Expired", Message: "too old"})
			if !bytes.Equal(own, real) {
				t.Errorf("wrote\n%q\nkube-apiserver writes\n%q", own, real)
			}
			got := frames(t, e.encoding, real)
			if len(got) != 1 || got[0].Type != wire.Error || got[0].Status != 410 || got[0].Item.Kind != "Status" {
				t.Errorf("scanned as %+v", got)
			}
		})
	}
}

// TestWatchCutShort ends a stream after every byte.
func TestWatchCutShort(t *testing.T) {
	t.Parallel()
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			api, kind := newAPI(t, e.media), corev1.SchemeGroupVersion.WithKind("ConfigMap")
			one := api.frame(t, wire.Added, random(t, filler(5), kind), kind.GroupVersion())
			stream := append(bytes.Clone(one), one...)
			for cut := range len(stream) + 1 {
				seen := 0
				s := wire.NewWatchScanner(e.encoding, wire.Limits{}, func(wire.Frame) error { seen++; return nil })
				if _, err := s.Write(stream[:cut]); err != nil {
					t.Fatalf("cut at %d: %v", cut, err)
				}
				// A JSON frame is complete before its newline.
				end := cut == 0 || cut == len(one) || cut == len(stream) || e.encoding == scope.JSON && (cut == len(one)-1 || cut == len(stream)-1)
				if err := s.Close(); errors.Is(err, wire.ErrTruncated) == end || !end && err == nil {
					t.Errorf("cut at %d of %d: %v", cut, len(stream), err)
				}
				if want := (cut + len(stream) - len(bytes.TrimRight(stream, "\n"))) / len(one); seen != want {
					t.Errorf("cut at %d: %d frames, want %d", cut, seen, want)
				}
			}
		})
	}
}

func TestWatchLimit(t *testing.T) {
	t.Parallel()
	for _, e := range encodings {
		api := newAPI(t, e.media)
		large := &corev1.ConfigMap{Data: map[string]string{"a": strings.Repeat("x", 5000)}}
		stream := api.frame(t, wire.Added, large, corev1.SchemeGroupVersion)
		for _, limit := range []int{4000, 6000} {
			s := wire.NewWatchScanner(e.encoding, wire.Limits{Object: limit}, func(wire.Frame) error { return nil })
			err := write(t, s, rand.New(rand.NewSource(1)), stream)
			if got := errors.Is(err, wire.ErrTooLarge); got != (limit < 5000) {
				t.Errorf("%s, limit %d: %v", e.name, limit, err)
			}
		}
	}
}
