package media

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

var pods = scope.Resource{Version: "v1", Resource: "pods"}

// later is an hour after fullPod was made.
func later() time.Time { return time.Unix(1767225600+3600, 0) }

// mixed is a list whose items are kept in both encodings, as objects are that two clients read.
func mixed(t testing.TB) []scope.Item {
	t.Helper()
	first := protobufItem(t, "v1", "Pod", fullPod(), "p")
	second := fullPod()
	second.Name = "q"
	inJSON, err := Convert(protobufItem(t, "v1", "Pod", second, "q"), scope.JSON)
	if err != nil {
		t.Fatal(err)
	}
	return []scope.Item{first, inJSON}
}

func each(items []scope.Item) iter.Seq2[scope.Item, error] {
	return func(yield func(scope.Item, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}

func podList() wire.List {
	return wire.List{Kind: scope.Kind{APIVersion: "v1", Kind: "PodList"}, Version: "9"}
}

func TestListsInEveryForm(t *testing.T) {
	for _, test := range []struct {
		format Format
		kind   string // of the list
		check  func(items []scope.Item) error
	}{
		{Format{Encoding: scope.JSON}, "PodList", wantPods("")},
		{Format{Encoding: scope.Protobuf}, "PodList", wantPods("")},
		{Format{Encoding: scope.JSON, Pretty: true}, "PodList", wantPods("")},
		{Format{Encoding: scope.JSON, YAML: true}, "PodList", wantPods("")},
		{Format{Encoding: scope.JSON, As: Metadata, MetaVersion: "v1"}, "PartialObjectMetadataList", wantPods("meta.k8s.io/v1")},
		{Format{Encoding: scope.Protobuf, As: Metadata, MetaVersion: "v1beta1"}, "PartialObjectMetadataList", wantPods("meta.k8s.io/v1beta1")},
	} {
		t.Run(fmt.Sprintf("%+v", test.format), func(t *testing.T) {
			r := Renderer{Format: test.format, Kind: podList().Kind, Resource: pods, Now: later}
			var b bytes.Buffer
			if err := r.List(&b, podList(), each(mixed(t))); err != nil {
				t.Fatal(err)
			}
			body := b.Bytes()
			if test.format.YAML {
				var err error
				if body, err = yaml.YAMLToJSON(body); err != nil {
					t.Fatal(err)
				}
			}
			if lines := bytes.Count(body, []byte("\n")); test.format.Pretty && lines < 50 {
				t.Errorf("got %d lines, want it written for people", lines)
			}
			var items []scope.Item
			scanner := wire.NewListScanner(test.format.Encoding, wire.Limits{}, func(item scope.Item) error {
				items = append(items, item)
				return nil
			})
			if _, err := scanner.Write(body); err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			list, err := scanner.Close()
			if err != nil {
				t.Fatal(err)
			}
			if list.Kind.Kind != test.kind || list.Version != "9" {
				t.Errorf("got %+v", list)
			}
			for i := range items {
				items[i] = list.Own(items[i])
			}
			if err := test.check(items); err != nil {
				t.Error(err)
			}
		})
	}
}

// wantPods checks that the items are the two pods, or their metadata.
func wantPods(metaVersion string) func([]scope.Item) error {
	return func(items []scope.Item) error {
		if len(items) != 2 || items[0].Name != "p" || items[1].Name != "q" {
			return fmt.Errorf("got %+v", items)
		}
		for _, item := range items {
			spec, has, err := wire.Field(item, "spec", "nodeName")
			if metaVersion != "" && item.Encoding == scope.Protobuf {
				has, err = bytes.Contains(item.Raw, []byte("192.0.2.1")), nil
			}
			if err != nil {
				return err
			}
			if has != (metaVersion == "") || metaVersion != "" && item.APIVersion != metaVersion {
				return fmt.Errorf("%+v: node %q", item, spec)
			}
		}
		return nil
	}
}

func TestObjectsInEveryForm(t *testing.T) {
	for _, test := range []struct {
		format Format
		want   string
	}{
		{Format{Encoding: scope.JSON}, `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p",`},
		{Format{Encoding: scope.JSON, Pretty: true}, "{\n  \"kind\": \"Pod\",\n  \"apiVersion\": \"v1\",\n"},
		{Format{Encoding: scope.JSON, YAML: true}, "apiVersion: v1\nkind: Pod\nmetadata:\n"},
		{Format{Encoding: scope.Protobuf}, "k8s\x00\n\t\n\x02v1\x12\x03Pod"},
		{Format{Encoding: scope.JSON, As: Metadata, MetaVersion: "v1"}, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"p",`},
		{Format{Encoding: scope.JSON, As: Table, MetaVersion: "v1beta1"}, `{"kind":"Table","apiVersion":"meta.k8s.io/v1beta1","metadata":{"resourceVersion":"7"},"columnDefinitions":[{"name":"Name",`},
		{Format{Encoding: scope.JSON, As: Table, MetaVersion: "v1", YAML: true}, "apiVersion: meta.k8s.io/v1\ncolumnDefinitions:\n- description:"},
	} {
		for _, item := range mixed(t)[:1] {
			r := Renderer{Format: test.format, Kind: scope.Kind{APIVersion: "v1", Kind: "Pod"}, Resource: pods, Now: later}
			body, err := r.Object(item)
			if err != nil {
				t.Errorf("%+v: %v", test.format, err)
				continue
			}
			if !strings.HasPrefix(string(body), test.want) {
				t.Errorf("%+v: got %.200q, want %q", test.format, body, test.want)
			}
		}
	}
}

func TestTable(t *testing.T) {
	r := Renderer{Format: Format{Encoding: scope.JSON, As: Table, MetaVersion: "v1", Include: "Metadata"}, Kind: podList().Kind, Resource: pods, Now: later}
	var b bytes.Buffer
	list := podList()
	list.Continue, list.Remaining = "more", 5
	if err := r.List(&b, list, each(mixed(t))); err != nil {
		t.Fatal(err)
	}
	var got metav1.Table
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Kind != "Table" || got.ResourceVersion != "9" || got.Continue != "more" || got.RemainingItemCount == nil || *got.RemainingItemCount != 5 {
		t.Errorf("got %+v %+v", got.TypeMeta, got.ListMeta)
	}
	var columns []string
	for _, c := range got.ColumnDefinitions {
		columns = append(columns, c.Name)
	}
	if want := []string{"Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node", "Readiness Gates"}; !slices.Equal(columns, want) {
		t.Errorf("got columns %q, want %q", columns, want)
	}
	if len(got.Rows) != 2 {
		t.Fatalf("got %d rows", len(got.Rows))
	}
	want := []any{"q", "0/1", "Running", "0", "60m", "192.0.2.1", "n", "<none>", "<none>"}
	if !slices.Equal(got.Rows[1].Cells, want) {
		t.Errorf("got %q, want %q", got.Rows[1].Cells, want)
	}
	var object metav1.PartialObjectMetadata
	if err := json.Unmarshal(got.Rows[1].Object.Raw, &object); err != nil || object.Kind != "PartialObjectMetadata" || object.Labels["z"] != "1" {
		t.Errorf("got object %s, %v", got.Rows[1].Object.Raw, err)
	}
}

// TestPodStates has what `kubectl get pods` says of pods in trouble.
func TestPodStates(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	yes := true
	deleted := metav1.Time(metav1.Unix(1767225600, 0))
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, FinishedAt: deleted}}
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	done := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed"}}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for _, test := range []struct {
		what                    string
		change                  func(p *corev1.Pod)
		ready, reason, restarts string
	}{
		{"nothing known", func(*corev1.Pod) {}, "0/1", "Pending", "0"},
		{"evicted", func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = "Failed", "Evicted" }, "0/1", "Evicted", "0"},
		{"gated", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: "PodScheduled", Status: "False", Reason: "SchedulingGated"}}
		}, "0/1", "SchedulingGated", "0"},
		{"pulling", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: waiting("ImagePullBackOff")}}
		}, "0/1", "ImagePullBackOff", "0"},
		{"killed", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: ended, RestartCount: 3, LastTerminationState: ended}}
		}, "0/1", "ExitCode:137", "3 (60m ago)"},
		{"signalled", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Signal: 9}}}}
		}, "0/1", "Signal:9", "0"},
		{"done and running, ready", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: "Ready", Status: "True"}}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: done}, {State: running, Ready: true}}
		}, "1/1", "Running", "0"},
		{"done and running, not ready", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: done}, {State: running, Ready: true}}
		}, "1/1", "NotReady", "0"},
		{"first init container", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i"}, {Name: "j"}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i", State: waiting("PodInitializing")}, {Name: "j"}}
		}, "0/1", "Init:0/2", "0"},
		{"init container fails", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i"}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i", State: ended, RestartCount: 2, LastTerminationState: ended}}
		}, "0/1", "Init:ExitCode:137", "2 (60m ago)"},
		{"sidecar started, next init container waits", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "s", RestartPolicy: &always}, {Name: "i"}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "s", Started: &yes, Ready: true, State: running}, {Name: "i", State: waiting("ErrImagePull")}}
		}, "1/2", "Init:ErrImagePull", "0"},
		{"going", func(p *corev1.Pod) { p.DeletionTimestamp, p.Status.Phase = &deleted, "Running" }, "0/1", "Terminating", "0"},
		{"gone with its node", func(p *corev1.Pod) { p.DeletionTimestamp, p.Status.Reason = &deleted, "NodeLost" }, "0/1", "Unknown", "0"},
		{"finished and going", func(p *corev1.Pod) { p.DeletionTimestamp, p.Status.Phase = &deleted, "Succeeded" }, "0/1", "Succeeded", "0"},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}, Status: corev1.PodStatus{Phase: "Pending"}}
		test.change(pod)
		cells, conditions, err := podRow(protobufItem(t, "v1", "Pod", pod, "p"), later())
		if err != nil {
			t.Fatal(err)
		}
		if cells[1] != test.ready || cells[2] != test.reason || cells[3] != test.restarts {
			t.Errorf("%s: got %v %v %v, want %v %v %v", test.what, cells[1], cells[2], cells[3], test.ready, test.reason, test.restarts)
		}
		if ended := pod.Status.Phase == "Succeeded" || pod.Status.Phase == "Failed"; ended != (len(conditions) == 1) {
			t.Errorf("%s: got conditions %v", test.what, conditions)
		}
	}
}

// TestTableWatch: the columns come once; a bookmark is a row of nothing, whose object says what it is.
func TestTableWatch(t *testing.T) {
	r := Renderer{
		Format: Format{Encoding: scope.JSON, As: Table, MetaVersion: "v1", Include: "None", Stream: true},
		Kind:   podList().Kind, Resource: pods, Now: later,
	}
	var stream []byte
	var err error
	for _, item := range mixed(t) {
		if stream, err = r.Frame(stream, wire.Added, item); err != nil {
			t.Fatal(err)
		}
	}
	if stream, err = r.Bookmark(stream, "11", true); err != nil {
		t.Fatal(err)
	}
	if stream, err = r.Bookmark(stream, "12", false); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range bytes.Lines(stream) {
		var frame struct {
			Type   string
			Object metav1.Table
		}
		if err := json.Unmarshal(line, &frame); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		row := frame.Object.Rows[0]
		got = append(got, fmt.Sprintf("%s %d columns, version %s, %q %s", frame.Type, len(frame.Object.ColumnDefinitions),
			frame.Object.ResourceVersion, row.Cells[0], row.Object.Raw))
	}
	want := []string{
		`ADDED 9 columns, version 7, "p" `,
		`ADDED 0 columns, version 7, "q" `,
		`BOOKMARK 0 columns, version 11, "" {"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":` +
			`{"resourceVersion":"11","annotations":{"k8s.io/initial-events-end":"true"}}}`,
		`BOOKMARK 0 columns, version 12, "" `,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestWatchFrames reads frames back in each encoding.
func TestWatchFrames(t *testing.T) {
	for _, format := range []Format{
		{Encoding: scope.JSON, Stream: true}, {Encoding: scope.Protobuf, Stream: true},
		{Encoding: scope.JSON, As: Metadata, MetaVersion: "v1", Stream: true}, {Encoding: scope.Protobuf, As: Metadata, MetaVersion: "v1", Stream: true},
	} {
		r := Renderer{Format: format, Kind: podList().Kind, Resource: pods, Now: later}
		var stream []byte
		var err error
		for _, item := range mixed(t) {
			if stream, err = r.Frame(stream, wire.Modified, item); err != nil {
				t.Fatal(err)
			}
		}
		if stream, err = r.Bookmark(stream, "11", true); err != nil {
			t.Fatal(err)
		}
		kind := "Pod"
		if format.As == Metadata {
			kind = "PartialObjectMetadata"
		}
		var got []string
		scanner := wire.NewWatchScanner(format.Encoding, wire.Limits{}, func(f wire.Frame) error {
			got = append(got, fmt.Sprint(f.Type, " ", f.Item.Kind, " ", f.Item.Name, " ", f.Item.Version, " ", f.InitialEventsEnd))
			return nil
		})
		if _, err := scanner.Write(stream); err != nil {
			t.Fatal(err)
		}
		if err := scanner.Close(); err != nil {
			t.Fatal(err)
		}
		want := []string{"MODIFIED " + kind + " p 7 false", "MODIFIED " + kind + " q 7 false", "BOOKMARK " + kind + "  11 true"}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: got %q, want %q", format, got, want)
		}
	}
}

// TestAnItemThatCannotBeReadFailsTheList: a list is never shorter.
func TestAnItemThatCannotBeReadFailsTheList(t *testing.T) {
	damaged := mixed(t)
	damaged[1].Raw = []byte(`{"metadata":{"name":"q"},"spec":"x"}`)
	unreadable := errors.New("the checksum is wrong")
	for _, format := range []Format{
		{Encoding: scope.Protobuf}, {Encoding: scope.JSON, As: Table, MetaVersion: "v1"}, {Encoding: scope.JSON, YAML: true},
		{Encoding: scope.JSON, As: Metadata, MetaVersion: "v1"}, {Encoding: scope.JSON},
	} {
		r := Renderer{Format: format, Kind: podList().Kind, Resource: pods, Now: later}
		if err := r.List(io.Discard, podList(), each(damaged)); err == nil && (format.Encoding == scope.Protobuf || format.As == Table) {
			t.Errorf("%+v: an item that cannot be decoded was passed over", format)
		}
		err := r.List(io.Discard, podList(), func(yield func(scope.Item, error) bool) {
			if yield(mixed(t)[0], nil) {
				yield(scope.Item{}, unreadable)
			}
		})
		if !errors.Is(err, unreadable) {
			t.Errorf("%+v: got %v, want the store's error", format, err)
		}
	}
}

func TestBody(t *testing.T) {
	small, large := bytes.Repeat([]byte("x"), gzipThreshold), bytes.Repeat([]byte("x"), gzipThreshold+1)
	for _, test := range []struct {
		format Format
		body   []byte
		zipped bool
	}{
		{Format{Encoding: scope.JSON, Gzip: true}, small, false},
		{Format{Encoding: scope.JSON, Gzip: true}, large, true},
		{Format{Encoding: scope.JSON}, large, false},
		{Format{Encoding: scope.Protobuf, Gzip: true}, large, true},
		{Format{Encoding: scope.JSON, Gzip: true}, nil, false},
	} {
		for range 2 { // the second time with a compressor that was used
			w := httptest.NewRecorder()
			body := Body(w, http.StatusCreated, test.format)
			for piece := range slices.Chunk(test.body, 1000) {
				if _, err := body.Write(piece); err != nil {
					t.Fatal(err)
				}
			}
			if err := body.Close(); err != nil {
				t.Fatal(err)
			}
			got := w.Result()
			if got.StatusCode != http.StatusCreated || got.Header.Get("Content-Type") != test.format.ContentType() {
				t.Errorf("got %d %v", got.StatusCode, got.Header)
			}
			if zipped := got.Header.Get("Content-Encoding") == "gzip"; zipped != test.zipped || zipped != (got.Header.Get("Vary") == "Accept-Encoding") {
				t.Errorf("%d bytes: got %v", len(test.body), got.Header)
			}
			reader := got.Body
			if test.zipped {
				var err error
				if reader, err = gzip.NewReader(got.Body); err != nil {
					t.Fatal(err)
				}
			}
			if read, err := io.ReadAll(reader); err != nil || !bytes.Equal(read, test.body) {
				t.Errorf("got %d bytes, %v, want %d", len(read), err, len(test.body))
			}
		}
	}
}

func TestCompile(t *testing.T) {
	all := mixed(t)
	for _, test := range []struct {
		labels, fields, namespace string
		want                      bool
	}{
		{"", "", "", true}, {"", "", "a", true}, {"", "", "b", false},
		{"z=1", "", "", true}, {"z in (2,3)", "", "", false}, {"!y,z", "spec.nodeName=n", "a", true},
		{"", "spec.nodeName=m", "", false}, {"", "spec.nodeName!=m,status.phase=Running", "", true}, {"", "spec.hostNetwork=false", "", true},
		{"", "spec.host=n", "", true}, {"", "metadata.namespace=a", "", true}, {"", "metadata.namespace=b", "", false},
	} {
		match, err := Compile(scope.Key{Resource: pods, Namespace: test.namespace, Labels: test.labels, Fields: test.fields}, podList().Kind, scope.Item{})
		if err != nil {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		for _, item := range all {
			if got, err := match(item); err != nil || got != test.want {
				t.Errorf("%+v as %d: got %v, %v", test, item.Encoding, got, err)
			}
		}
	}
	crd := scope.Item{Encoding: scope.JSON, Raw: []byte(`{"spec":{"versions":[{"name":"v1","selectableFields":[{"jsonPath":".spec.color"}]}]}}`)}
	widgets := scope.Resource{Group: "example.com", Version: "v1", Resource: "widgets"}
	widget := scope.Item{APIVersion: "example.com/v1", Kind: "Widget", Name: "w", Encoding: scope.JSON, Raw: []byte(`{"metadata":{"name":"w"},"spec":{"color":"red"}}`)}
	kind := scope.Kind{APIVersion: "example.com/v1", Kind: "WidgetList"}
	for fields, want := range map[string]bool{"spec.color=red": true, "spec.color!=red": false, "metadata.name=w": true} {
		match, err := Compile(scope.Key{Resource: widgets, Fields: fields}, kind, crd)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := match(widget); err != nil || got != want {
			t.Errorf("%s: got %v, %v", fields, got, err)
		}
	}
	for _, test := range []struct {
		key  scope.Key
		kind scope.Kind
		crd  scope.Item
		want string
	}{
		{scope.Key{Resource: widgets, Fields: "spec.size=1"}, kind, crd, "field label not supported: spec.size"},
		{scope.Key{Resource: widgets, Fields: "spec.color=red"}, kind, scope.Item{}, "field label not supported: spec.color"},
		{scope.Key{Resource: pods, Fields: "spec.x=1"}, podList().Kind, scope.Item{}, "field label not supported: spec.x"},
		{scope.Key{Resource: scope.Resource{Version: "v1", Resource: "configmaps"}, Fields: "data=1"}, scope.Kind{APIVersion: "v1", Kind: "ConfigMapList"},
			scope.Item{}, `"data" is not a known field selector: only "metadata.name", "metadata.namespace"`},
	} {
		_, err := Compile(test.key, test.kind, test.crd)
		var e *request.Error
		if !errors.As(err, &e) || e.Code != 400 || e.Message != test.want {
			t.Errorf("%s: got %v, want %s", test.key.Fields, err, test.want)
		}
	}
	if _, err := Compile(scope.Key{Resource: widgets, Fields: "x=1"}, kind, scope.Item{Name: "c", Encoding: scope.JSON, Raw: []byte("{")}); err == nil ||
		!strings.HasPrefix(err.Error(), "read CustomResourceDefinition c: ") {
		t.Errorf("got %v", err)
	}
}

// BenchmarkTable says what `kubectl get pods` of a node's pods costs.
func BenchmarkTable(b *testing.B) {
	var items []scope.Item
	for i := range 110 {
		items = append(items, protobufItem(b, "v1", "Pod", fullPod(), fmt.Sprint("p", i)))
	}
	b.ReportAllocs()
	for b.Loop() {
		r := Renderer{Format: Format{Encoding: scope.JSON, As: Table, MetaVersion: "v1"}, Kind: podList().Kind, Resource: pods, Now: later}
		if err := r.List(io.Discard, podList(), each(items)); err != nil {
			b.Fatal(err)
		}
	}
}
