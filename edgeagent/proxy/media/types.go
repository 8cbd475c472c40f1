package media

import (
	"fmt"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// object is a built-in type of k8s.io/api: it knows both encodings.
type object interface {
	runtime.Object
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// types makes objects of built-in kinds. A group version's types are registered when the first of them is asked for: most nodes
// never convert anything, and what they do convert is of one or two groups.
type types struct {
	mu     sync.Mutex
	groups map[schema.GroupVersion]func(*runtime.Scheme) error
	scheme *runtime.Scheme
	// added has the resources of each group version that is registered.
	added map[schema.GroupVersion]map[string]bool
}

// known gives the types. They are made when they are first needed.
var known = sync.OnceValue(func() *types {
	return &types{groups: groups(), scheme: runtime.NewScheme(), added: map[schema.GroupVersion]map[string]bool{}}
})

// add registers a group version. False: it is not built in.
func (t *types) add(gv schema.GroupVersion) (bool, error) {
	if t.added[gv] != nil {
		return true, nil
	}
	add := t.groups[gv]
	if add == nil {
		return false, nil
	}
	if err := add(t.scheme); err != nil {
		return false, fmt.Errorf("register the types of %s: %w", gv, err)
	}
	resources := map[string]bool{}
	for kind := range t.scheme.KnownTypes(gv) {
		plural, _ := meta.UnsafeGuessKindToResource(gv.WithKind(kind))
		resources[plural.Resource] = true
	}
	t.added[gv] = resources
	return true, nil
}

// make gives an empty object of a kind, or ErrUnknownKind.
func (t *types) make(apiVersion, kind string) (object, error) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, fmt.Errorf("read apiVersion %q: %w", apiVersion, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if builtin, err := t.add(gv); err != nil {
		return nil, err
	} else if !builtin || !t.scheme.Recognizes(gv.WithKind(kind)) {
		return nil, unknownKind(apiVersion, kind)
	}
	made, err := t.scheme.New(gv.WithKind(kind))
	if err != nil {
		return nil, fmt.Errorf("make a %s %s: %w", apiVersion, kind, err)
	}
	o, ok := made.(object)
	if !ok {
		return nil, unknownKind(apiVersion, kind)
	}
	return o, nil
}

// serves tells whether a resource is of a built-in kind, so that it can be had in both encodings.
func (t *types) serves(r scope.Resource) bool {
	gv := schema.GroupVersion{Group: r.Group, Version: r.Version}
	t.mu.Lock()
	defer t.mu.Unlock()
	builtin, err := t.add(gv)
	return err == nil && builtin && t.added[gv][r.Resource]
}
