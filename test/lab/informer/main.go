// Program informer watches one resource with client-go's dynamic informer, as an operator does, and serves what it sees over
// HTTP. It runs in a pod of the lab, with the pod's own service account: how such a program fares on a node that is cut off is a
// promise of Holdfast's.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run takes a resource as RESOURCE.VERSION.GROUP, the way kubectl has it.
func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: informer RESOURCE.VERSION.GROUP")
	}
	resource, _ := schema.ParseResourceArg(args[0])
	if resource == nil {
		return fmt.Errorf("%q is no RESOURCE.VERSION.GROUP", args[0])
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := dynamicinformer.NewDynamicSharedInformerFactory(client, 0)
	informer := factory.ForResource(*resource).Informer()
	factory.Start(make(chan struct{}))
	return serve(informer)
}

// serve answers with {"synced": …, "objects": {"NAMESPACE/NAME": "RESOURCEVERSION"}}.
func serve(informer cache.SharedIndexInformer) error {
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 5 * time.Second}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		objects := map[string]string{}
		for _, item := range informer.GetStore().List() {
			if o, ok := item.(*unstructured.Unstructured); ok {
				objects[o.GetNamespace()+"/"+o.GetName()] = o.GetResourceVersion()
			}
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(map[string]any{"synced": informer.HasSynced(), "objects": objects}); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	})
	return server.ListenAndServe()
}
