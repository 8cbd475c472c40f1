package offline

import (
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/selector"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// TestMayCover: the quick look never says no where the thorough one says yes, and does say no to what it is there for.
func TestMayCover(t *testing.T) {
	var keys []scope.Key
	for _, text := range []string{
		"", "metadata.name=a", "metadata.name==a", "metadata.name=b", "metadata.name=aa", "metadata.name!=a", "metadata.name=a,metadata.namespace=x",
		"metadata.namespace=x,metadata.name=a", "metadata.name=a,type=Opaque", "type=Opaque", `metadata.name=a\,b`, `metadata.name=a\=b`, "metadata.name=",
	} {
		fields, err := selector.ParseFields(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, namespace := range []string{"", "x"} {
			keys = append(keys, scope.Key{Namespace: namespace, Fields: fields.String()})
		}
	}
	keys = append(keys, scope.Key{Namespace: "x", Name: "a"}, scope.Key{Namespace: "x", Name: "b"})
	covered := 0
	for _, wide := range keys {
		for _, narrow := range keys {
			if wide.Name != "" || !selector.Covers(wide, narrow) {
				continue
			}
			covered++
			if !mayCover(&wide, &narrow) {
				t.Errorf("%+v covers %+v", wide, narrow)
			}
		}
	}
	if covered < len(keys) {
		t.Errorf("of %d scopes only %d cover one", len(keys), covered)
	}
	if mayCover(&scope.Key{Fields: "metadata.name=a"}, &scope.Key{Fields: "metadata.name=b"}) {
		t.Error("the scope of one Secret would be looked through for every other")
	}
}
