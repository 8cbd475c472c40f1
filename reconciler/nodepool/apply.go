package nodepool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// apply makes want the whole set of marks that Manager has on the Node. It is idempotent. If the API server refuses the
// set, each mark is tried alone, so that one that is not permitted does not keep the others out; the error then
// names the refused ones.
func (r *Reconciler) apply(ctx context.Context, uid string, want Marks) error {
	err := r.api.Apply(ctx, nodePath(r.node), Manager, false, r.object(uid, want))
	if err == nil || !refused(err) || len(want.Labels)+len(want.Annotations) < 2 {
		return err
	}
	permitted, refusals, checkErr := r.sift(ctx, uid, want)
	if checkErr != nil || len(refusals) == 0 {
		return err
	}
	if err := r.api.Apply(ctx, nodePath(r.node), Manager, false, r.object(uid, permitted)); err != nil {
		return err
	}
	return errors.Join(refusals...)
}

// sift asks for each mark alone whether the API server would take it.
func (r *Reconciler) sift(ctx context.Context, uid string, want Marks) (permitted Marks, refusals []error, err error) {
	permitted = Marks{Labels: map[string]string{}, Annotations: map[string]string{}}
	one := func(kind, key string, alone Marks, take func()) error {
		err := r.api.Apply(ctx, nodePath(r.node), Manager, true, r.object(uid, alone))
		switch {
		case err == nil:
			take()
		case refused(err):
			refusals = append(refusals, fmt.Errorf("%s %s: %w", kind, key, err))
		default:
			return err
		}
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(want.Labels)) {
		v := want.Labels[k]
		if err := one("label", k, Marks{Labels: map[string]string{k: v}}, func() { permitted.Labels[k] = v }); err != nil {
			return Marks{}, nil, err
		}
	}
	for _, k := range slices.Sorted(maps.Keys(want.Annotations)) {
		v := want.Annotations[k]
		if err := one("annotation", k, Marks{Annotations: map[string]string{k: v}}, func() { permitted.Annotations[k] = v }); err != nil {
			return Marks{}, nil, err
		}
	}
	return permitted, refusals, nil
}

// refused says whether the API server would not have it, rather than could not be asked.
func refused(err error) bool {
	reason := reconciler.Reason(err)
	return reason == condition.ReasonForbidden || reason == condition.ReasonInvalid
}

// object is the Node as Manager applies it. Its uid keeps the API server from making a Node of it should the Node have
// been deleted meanwhile: that is the kubelet's to do.
func (r *Reconciler) object(uid string, m Marks) any {
	meta := map[string]any{"name": r.node, "uid": uid}
	if len(m.Labels) > 0 {
		meta["labels"] = m.Labels
	}
	if len(m.Annotations) > 0 {
		meta["annotations"] = m.Annotations
	}
	return map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": meta}
}
