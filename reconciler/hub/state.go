package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/holdfast-dev/holdfast/policy/verify"
)

// stateName names the ConfigMap with the hub's state. See docs/adr/0050.
const stateName = "holdfast-hub-state"

// errTakenOver says that another hub wrote the state: this one is not the leader any more and must end.
var errTakenOver = errors.New("another hub wrote the state")

// stored is what the hub keeps between verdicts and restarts.
type stored struct {
	// Anchor is the commit the hub was told to enrol at. State.Anchor moves with re-anchor records, this does not.
	Anchor string `json:"anchor"`
	// State is package verify's.
	State verify.State `json:"state"`
}

// stateStore keeps the state. A save is whole or it did not happen, and it gives errTakenOver if somebody else saved since
// the last load or save. It is used by one goroutine.
type stateStore interface {
	load(context.Context) (stored, error)
	save(context.Context, stored) error
}

// configMapState keeps the state in a ConfigMap.
type configMapState struct {
	cluster   kubernetes.Interface
	namespace string
	version   string // the resourceVersion of the last load or save; "" if there was no ConfigMap
}

func (s *configMapState) load(ctx context.Context) (stored, error) {
	cm, err := s.cluster.CoreV1().ConfigMaps(s.namespace).Get(ctx, stateName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		s.version = ""
		return stored{}, nil
	}
	if err != nil {
		return stored{}, err
	}
	var v stored
	if err := json.Unmarshal([]byte(cm.Data["state.json"]), &v); err != nil {
		return stored{}, fmt.Errorf("ConfigMap %s/%s: %w: delete it to enrol anew at --anchor", s.namespace, stateName, err)
	}
	s.version = cm.ResourceVersion
	return v, nil
}

func (s *configMapState) save(ctx context.Context, v stored) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	cm := &corev1.ConfigMap{}
	cm.Namespace, cm.Name, cm.ResourceVersion = s.namespace, stateName, s.version
	cm.Labels = map[string]string{"app.kubernetes.io/managed-by": fieldManager}
	cm.Data = map[string]string{"state.json": string(raw)}
	maps := s.cluster.CoreV1().ConfigMaps(s.namespace)
	if s.version == "" {
		cm, err = maps.Create(ctx, cm, metav1.CreateOptions{FieldManager: fieldManager})
	} else {
		cm, err = maps.Update(ctx, cm, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err) && s.version != "":
		return fmt.Errorf("%w: ConfigMap %s/%s: %w", errTakenOver, s.namespace, stateName, err)
	case err != nil:
		return err
	}
	s.version = cm.ResourceVersion
	return nil
}
