package selector

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

func TestCanonicalLabels(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"a", "a"},
		{"b=1,a==2", "a=2,b=1"},
		{" a  in ( z , y,z ) , !b", "!b,a in (y,z)"},
		{"a in (x)", "a=x"},
		{"a notin (x)", "a!=x"},
		{"a=x,a=x", "a=x"},
		{"a in (y,x),a=x", "a in (x,y),a=x"},
		{"a>1,a<9", "a<9,a>1"},
		{"a=", "a="},
		{"a in (,x)", "a in (,x)"},
		{"!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless", "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name"},
	} {
		got, err := ParseLabels(test.text)
		if err != nil {
			t.Errorf("%q: %v", test.text, err)
			continue
		}
		if got.String() != test.want {
			t.Errorf("%q: got %q, want %q", test.text, got.String(), test.want)
		}
		again, err := ParseLabels(got.String())
		if err != nil || again.String() != got.String() {
			t.Errorf("%q again: got %q, %v", got, again, err)
		}
	}
	for _, text := range []string{"a===b", "-", "a in b", "a in (", "a>x", "a=b c", strings.Repeat("a", 300), "x/y/z=1"} {
		if got, err := ParseLabels(text); err == nil {
			t.Errorf("%q: got %q, want an error", text, got)
		}
	}
}

func TestCanonicalFields(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"spec.nodeName==n,metadata.name!=x", "metadata.name!=x,spec.nodeName=n"},
		{"a=b,,a=b,", "a=b"},
		{`a=x\,y\=z\\`, `a=x\,y\=z\\`},
		{"spec.nodeName=", "spec.nodeName="},
	} {
		got, err := ParseFields(test.text)
		if err != nil || got.String() != test.want {
			t.Errorf("%q: got %q, %v, want %q", test.text, got, err, test.want)
		}
	}
	for _, text := range []string{"a", "a=b=c", `a=\x`, `a=\`, "a=\xff"} {
		if got, err := ParseFields(text); err == nil {
			t.Errorf("%q: got %q, want an error", text, got)
		}
	}
}

func TestName(t *testing.T) {
	for _, test := range []struct {
		fields, want string
		ok           bool
	}{
		{"metadata.name=x", "x", true}, {"metadata.name!=x", "", false}, {"metadata.name=x,spec.nodeName=n", "x", true},
		{"spec.x=metadata.name\\=y", "", false}, {"", "", false}, {ByName("a,b"), "a,b", true},
	} {
		if got, ok := Name(test.fields); got != test.want || ok != test.ok {
			t.Errorf("%q: got %q, %v, want %q, %v", test.fields, got, ok, test.want, test.ok)
		}
	}
}

func TestCovers(t *testing.T) {
	pods := scope.Resource{Version: "v1", Resource: "pods"}
	all := scope.Key{Identity: "me", Resource: pods}
	key := func(namespace, labels, fields string) scope.Key {
		k := all
		k.Namespace, k.Labels, k.Fields = namespace, labels, fields
		return k
	}
	get := func(namespace, name string) scope.Key {
		k := all
		k.Namespace, k.Name = namespace, name
		return k
	}
	other := all
	other.Identity = "you"
	metadata := all
	metadata.Metadata = true
	for _, test := range []struct {
		what         string
		wide, narrow scope.Key
		want         bool
	}{
		{"the same", all, all, true},
		{"another identity", other, all, false},
		{"another resource", scope.Key{Identity: "me", Resource: scope.Resource{Version: "v1", Resource: "nodes"}}, all, false},
		{"metadata for objects", metadata, all, false},
		{"objects for metadata", all, metadata, true},
		{"all namespaces for one", all, key("a", "", ""), true},
		{"one namespace for all", key("a", "", ""), all, false},
		{"one namespace for another", key("a", "", ""), key("b", "", ""), false},
		{"one namespace for all, of which a field asks for it", key("a", "", ""), key("", "", "metadata.namespace=a"), true},
		{"a node's pods for all", key("", "", "spec.nodeName=n"), all, false},
		{"a node's pods for some of them", key("", "", "spec.nodeName=n"), key("a", "app=x", "spec.nodeName=n,status.phase=Running"), true},
		{"a node's pods for a GET", key("", "", "spec.nodeName=n"), get("a", "p"), false},
		{"all pods for a GET", all, get("a", "p"), true},
		{"a namespace's pods for a GET there", key("a", "", ""), get("a", "p"), true},
		{"a namespace's pods for a GET elsewhere", key("b", "", ""), get("a", "p"), false},
		{"one by name for a GET of it", key("a", "", "metadata.name=p"), get("a", "p"), true},
		{"one by name for a GET of another", key("a", "", "metadata.name=p"), get("a", "q"), false},
		{"one by name for a GET in another namespace", key("a", "", "metadata.name=p"), get("b", "p"), false},
		{"all but one for a GET of another", key("a", "", "metadata.name!=q"), get("a", "p"), true},
		{"all but one for a GET of it", key("a", "", "metadata.name!=p"), get("a", "p"), false},
		{"by namespace field for a GET there", key("", "", "metadata.namespace=a"), get("a", "p"), true},
		{"labelled ones for a GET", key("a", "app=x", ""), get("a", "p"), false},
		{"a GET for the same GET", get("a", "p"), get("a", "p"), true},
		{"a GET for another", get("a", "p"), get("a", "q"), false},
		{"a GET for a list of it", get("a", "p"), key("a", "", "metadata.name=p"), false},
		{"more labels", key("", "app=x", ""), key("", "app=x,tier=y", ""), true},
		{"fewer labels", key("", "app=x,tier=y", ""), key("", "app=x", ""), false},
		{"a set and one of it", key("", "app in (x,y)", ""), key("", "app=x", ""), true},
		{"exists and a value", key("", "app", ""), key("", "app=x", ""), true},
		{"exists and not a value", key("", "app", ""), key("", "app!=x", ""), false},
		{"not a value and absent", key("", "app!=x", ""), key("", "!app", ""), true},
		{"kube-proxy's services for CoreDNS's", key("", "!service.kubernetes.io/service-proxy-name", "spec.clusterIP!=None"), all, false},
		{"unreadable labels", key("", "app==", ""), key("", "===", ""), false},
	} {
		if got := Covers(test.wide, test.narrow); got != test.want {
			t.Errorf("%s: got %v, want %v", test.what, got, test.want)
		}
	}
}

// TestCoversIsSound tries random selectors on all small objects: what a wide scope covers may not hold an object that the wide
// selector leaves out. That it is not always "no" is checked too.
func TestCoversIsSound(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	objects := smallObjects()
	covered := 0
	for range 20_000 {
		wide, narrow := randomKey(random), randomKey(random)
		if !Covers(wide, narrow) {
			continue
		}
		covered++
		inWide, inNarrow := selects(t, wide), selects(t, narrow)
		for _, o := range objects {
			if inNarrow(o) && !inWide(o) {
				t.Fatalf("%+v does not cover %+v: %+v", wide, narrow, o)
			}
		}
	}
	if covered < 600 {
		t.Errorf("covered %d of 20000 pairs: the test tries too little", covered)
	}
}

// small is an object of a world with two namespaces, two names, and one label and field of few values.
type small struct {
	namespace, name string
	labels          map[string]string
	fields          fields.Set
}

func smallObjects() []small {
	var all []small
	for _, namespace := range []string{"a", "b"} {
		for _, name := range []string{"p", "q"} {
			for _, field := range []string{"", "1", "2"} {
				for _, x := range []string{"-", "", "1", "2", "10", "z"} {
					for _, y := range []string{"-", "1"} {
						o := small{namespace, name, map[string]string{}, fields.Set{"f": field, "metadata.name": name, "metadata.namespace": namespace}}
						if x != "-" {
							o.labels["x"] = x
						}
						if y != "-" {
							o.labels["y"] = y
						}
						all = append(all, o)
					}
				}
			}
		}
	}
	return all
}

// selects tells which objects a key selects, by the code of apimachinery.
func selects(t *testing.T, k scope.Key) func(small) bool {
	t.Helper()
	l, err := labels.Parse(k.Labels)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fields.ParseSelector(k.Fields)
	if err != nil {
		t.Fatal(err)
	}
	return func(o small) bool {
		return (k.Namespace == "" || k.Namespace == o.namespace) && (k.Name == "" || k.Name == o.name) &&
			l.Matches(labels.Set(o.labels)) && f.Matches(o.fields)
	}
}

func randomKey(r *rand.Rand) scope.Key {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	k := scope.Key{Identity: "me", Namespace: pick("", "a", "b")}
	if r.IntN(4) == 0 && k.Namespace != "" {
		k.Name = pick("p", "q")
		return k
	}
	var l, f []string
	for range r.IntN(3) {
		x := pick("x", "y")
		l = append(l, pick(x, "!"+x, x+"="+pick("", "1", "2", "z"), x+"!="+pick("", "1", "z"), x+" in ("+pick("1", "1,2", "2,10,z")+")",
			x+" notin ("+pick("1", "1,2", "z,10")+")", x+">"+pick("0", "1", "5"), x+"<"+pick("2", "3", "20")))
	}
	for range r.IntN(3) {
		f = append(f, pick("f", "metadata.name", "metadata.namespace")+pick("=", "!=")+pick("", "1", "p", "a"))
	}
	parsed, err := ParseLabels(strings.Join(l, ","))
	if err != nil {
		panic(fmt.Sprint(l, err))
	}
	selected, err := ParseFields(strings.Join(f, ","))
	if err != nil {
		panic(fmt.Sprint(f, err))
	}
	k.Labels, k.Fields = parsed.String(), selected.String()
	return k
}

// FuzzLabels checks that the canonical form means the same, and is its own canonical form.
func FuzzLabels(f *testing.F) {
	for _, seed := range []string{"a", "a=b", "a in (b,c),!d", "a>1", "x notin ()", "a,,b", "a = b , c", "a==b,a=b"} {
		f.Add(seed, "a", "b")
	}
	f.Fuzz(func(t *testing.T, text, key, value string) {
		got, err := ParseLabels(text)
		want, wantErr := labels.Parse(text)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: got error %v, apimachinery has %v", text, err, wantErr)
		}
		if err != nil {
			return
		}
		again, err := ParseLabels(got.String())
		if err != nil || again.String() != got.String() {
			t.Fatalf("%q: canonical %q becomes %q, %v", text, got, again, err)
		}
		for _, object := range []map[string]string{{}, {key: value}} {
			if got.Matches(object) != want.Matches(labels.Set(object)) {
				t.Fatalf("%q on %v: got %v", text, object, got.Matches(object))
			}
		}
		k := scope.Key{Identity: "me", Labels: got.String()}
		if !Covers(k, k) || !Covers(scope.Key{Identity: "me"}, k) {
			t.Fatalf("%q does not cover itself", got)
		}
	})
}

// FuzzFields does the same for field selectors.
func FuzzFields(f *testing.F) {
	for _, seed := range []string{"a=b", "a!=b,c==d", `a=x\,y`, "a=b,,", "=", "!=", "a=\\"} {
		f.Add(seed, "a", "b")
	}
	f.Fuzz(func(t *testing.T, text, key, value string) {
		got, err := ParseFields(text)
		if !utf8.ValidString(text) {
			if err == nil {
				t.Fatalf("%q: it is not UTF-8, and got %q", text, got)
			}
			return
		}
		want, wantErr := fields.ParseSelector(text)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: got error %v, apimachinery has %v", text, err, wantErr)
		}
		if err != nil {
			return
		}
		again, err := ParseFields(got.String())
		if err != nil || again.String() != got.String() {
			t.Fatalf("%q: canonical %q becomes %q, %v", text, got, again, err)
		}
		object := fields.Set{key: value}
		matches := true
		for _, term := range got.Terms() {
			matches = matches && term.Holds(object.Get(term.Field))
		}
		if matches != want.Matches(object) {
			t.Fatalf("%q on %v: got %v", text, object, matches)
		}
		k := scope.Key{Identity: "me", Fields: got.String()}
		if !Covers(k, k) || !Covers(scope.Key{Identity: "me"}, k) {
			t.Fatalf("%q does not cover itself", got)
		}
	})
}
