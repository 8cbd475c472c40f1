package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/reconciler/hub/api/v1alpha1"
	"github.com/holdfast-dev/holdfast/reconciler/hub/rollup"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// page is how many objects one request lists.
const page = 500

// fleetSource reads the fleet from the cluster.
type fleetSource struct {
	fleet rest.Interface // fleet.holdfast.dev
	core  rest.Interface // v1
}

func newFleetSource(cfg *rest.Config) (*fleetSource, error) {
	scheme := runtime.NewScheme()
	core := schema.GroupVersion{Version: "v1"}
	if err := errors.Join(v1alpha1.AddToScheme(scheme), metav1.AddMetaToScheme(scheme)); err != nil {
		return nil, err
	}
	metav1.AddToGroupVersion(scheme, core)
	client := func(path string, gv schema.GroupVersion) (rest.Interface, error) {
		c := rest.CopyConfig(cfg)
		c.APIPath, c.GroupVersion = path, &gv
		c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
		return rest.RESTClientFor(c)
	}
	var s fleetSource
	var err1, err2 error
	s.fleet, err1 = client("/apis", v1alpha1.GroupVersion)
	s.core, err2 = client("/api", core)
	if err := errors.Join(err1, err2); err != nil {
		return nil, cli.Unreachable(fmt.Errorf("no cluster: %w", err))
	}
	return &s, nil
}

// versions are the resourceVersions that a read is from: where a watch goes on. Empty means it may not be watched.
type versions struct{ pools, nodes, kubelets string }

// read reads the whole fleet once, or one pool of it.
func (s *fleetSource) read(ctx context.Context, pool string) (*fleetView, versions, error) {
	var at versions
	var pools []v1alpha1.NodePool
	err := pages(ctx, func(o metav1.ListOptions) (string, error) {
		var list v1alpha1.NodePoolList
		if pool != "" {
			o.FieldSelector = "metadata.name=" + pool
		}
		err := s.fleet.Get().Resource("nodepools").VersionedParams(&o, metav1.ParameterCodec).Do(ctx).Into(&list)
		pools, at.pools = append(pools, list.Items...), list.ResourceVersion
		return list.Continue, err
	})
	if apierrors.IsNotFound(err) {
		return nil, at, errors.New("the cluster does not know NodePools: run `holdfast install` first")
	}
	if err != nil {
		return nil, at, fmt.Errorf("list NodePools: %w", err)
	}
	var nodes []v1alpha1.EdgeNode
	err = pages(ctx, func(o metav1.ListOptions) (string, error) {
		var list v1alpha1.EdgeNodeList
		if pool != "" {
			o.LabelSelector = labels.Set{plan.PoolLabel: pool}.String()
		}
		err := s.fleet.Get().Resource("edgenodes").VersionedParams(&o, metav1.ParameterCodec).Do(ctx).Into(&list)
		nodes, at.nodes = append(nodes, list.Items...), list.ResourceVersion
		return list.Continue, err
	})
	if err != nil {
		return nil, at, fmt.Errorf("list EdgeNodes: %w", err)
	}
	kubelets, version, err := s.kubelets(ctx)
	if err != nil {
		return nil, at, fmt.Errorf("list Nodes: %w", err)
	}
	at.kubelets = version
	return compose(pools, nodes, kubelets), at, nil
}

// pages calls list until it gives no more to continue with.
func pages(ctx context.Context, list func(metav1.ListOptions) (next string, err error)) error {
	o := metav1.ListOptions{Limit: page}
	for {
		next, err := list(o)
		if err != nil || next == "" || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		o.Continue = next
	}
}

// kubelets reads what Kubernetes knows of the kubelets, as the table that kubectl shows: whole Nodes are a hundred times as
// large. Who may not list Nodes sees what the agents say.
func (s *fleetSource) kubelets(ctx context.Context) (func(string) rollup.Kubelet, string, error) {
	version := ""
	known := map[string]rollup.Kubelet{}
	err := pages(ctx, func(o metav1.ListOptions) (string, error) {
		var table metav1.Table
		err := s.core.Get().Resource("nodes").VersionedParams(&o, metav1.ParameterCodec).Param("includeObject", string(metav1.IncludeNone)).
			SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Do(ctx).Into(&table)
		if err != nil {
			return "", err
		}
		nameAt, statusAt := column(table, "Name"), column(table, "Status")
		for _, row := range table.Rows {
			name, _ := row.Cells[nameAt].(string)
			status, _ := row.Cells[statusAt].(string)
			first, _, _ := strings.Cut(status, ",")
			known[name] = rollup.Kubelet{Known: true, Ready: first == "Ready", Message: "Kubernetes calls the Node " + status}
		}
		version = table.ResourceVersion
		return table.Continue, nil
	})
	if apierrors.IsForbidden(err) {
		return func(string) rollup.Kubelet { return rollup.Kubelet{Known: true, Ready: true} }, "", nil
	}
	return func(name string) rollup.Kubelet { return known[name] }, version, err
}

// column gives the place of a column, or 0.
func column(t metav1.Table, name string) int {
	for i, c := range t.ColumnDefinitions {
		if c.Name == name {
			return i
		}
	}
	return 0
}
