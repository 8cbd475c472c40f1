package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/kubelet"
	"github.com/holdfast-dev/holdfast/edgeagent/store"
	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/nodepool"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// unmarkTimeout bounds how long unenrolling waits for the API server.
const unmarkTimeout = 20 * time.Second

// UnenrollOptions say which enrolment to undo.
type UnenrollOptions struct {
	State   string
	Version string
	Log     *slog.Logger
}

// Unenrolled says what was done.
type Unenrolled struct {
	Node string
	// Unmarked: the labels and annotations that the agent had set were removed from the Node.
	Unmarked bool
	// LeftBehind says why not, if they were not.
	LeftBehind error
	// Detached: the kubelet was behind the proxy, and its files are as they were before. Notes say what is not.
	Detached bool
	Notes    []string
}

// Unenroll takes a machine out of its fleet: what the agent set on the Node is removed if the API server can be reached, the
// kubelet's files are put back, and everything the agent stored is removed. store.ErrNotEnrolled if there is nothing to undo.
func Unenroll(ctx context.Context, o UnenrollOptions) (Unenrolled, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if !exists(o.State) {
		return Unenrolled{}, fmt.Errorf("%w: there is no folder %s", store.ErrNotEnrolled, o.State)
	}
	lock, err := store.TakeLock(o.State)
	if errors.Is(err, store.ErrInUse) {
		return Unenrolled{}, fmt.Errorf("%w: stop the agent first (systemctl stop holdfast-agent)", err)
	}
	if err != nil {
		return Unenrolled{}, err
	}
	defer lock.Release()
	kept, err := store.ReadLocked(o.State, lock)
	if errors.Is(err, store.ErrNotEnrolled) {
		return Unenrolled{}, err
	}
	result := Unenrolled{Node: kept.Enrolment.Node}
	switch {
	case result.Node == "": // damaged, with no copy
		result.LeftBehind = err
	case !kept.Enrolment.Standalone:
		result.LeftBehind = o.unmark(ctx, kept.State)
		result.Unmarked = result.LeftBehind == nil
	}
	// Before anything is removed: without the state nobody could put the kubelet's files back.
	result.Notes, err = detach(o.State, nil)
	result.Detached = err == nil
	if err != nil && !errors.Is(err, kubelet.ErrNotAttached) {
		return result, err
	}
	if err := removePodAddress(o.State); err != nil {
		result.Notes = append(result.Notes, err.Error())
	}
	if err := cleanUp(o.State, false); err != nil {
		return result, fmt.Errorf("remove state: %w", err)
	}
	os.Remove(o.State) // stays if somebody else's files are in it
	return result, nil
}

// unmark removes what the agent set on the Node.
func (o UnenrollOptions) unmark(ctx context.Context, kept store.State) error {
	api, err := newAPI(o.State, o.Version)
	if err != nil {
		return err
	}
	if c, ok := api.(interface{ Close() }); ok {
		defer c.Close()
	}
	ctx, cancel := context.WithTimeout(ctx, unmarkTimeout)
	defer cancel()
	nothing := plan.Node{Fleet: kept.Trust.Fleet, Name: kept.Enrolment.Node}
	_, err = nodepool.New(api, kept.Enrolment.Node, o.Log).Reconcile(ctx, nothing)
	if reconciler.Reason(err) == condition.ReasonNodeMissing {
		return nil // a Node that is gone has nothing on it
	}
	return err
}
