package offline

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// streamed tells whether a request is one that the kubelet answers: logs, exec, attach, port-forward of a pod.
func streamed(req request.Request) bool {
	return req.Resource == scope.Resource{Version: "v1", Resource: "pods"} && slices.Contains([]string{"log", "exec", "attach", "portforward"}, req.Subresource) &&
		(req.Verb == "get" || req.Verb == "create" && req.Subresource != "log")
}

// stream asks the local kubelet, for root of this node. Pods have no such way offline: what they may do only upstream knows.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, req request.Request, caller Caller) error {
	if !caller.Node {
		return h.unavailable(req, "only root of this node can have it, with the node's local certificate")
	}
	where, err := h.locate(r, req, caller)
	if err != nil {
		return err
	}
	transport, err := h.kubelet.transport(where.addresses)
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	token := h.kubelet.issue()
	proxy := httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL = &url.URL{Scheme: "https", Host: "kubelet", Path: where.path, RawQuery: where.query.Encode()}
			p.Out.Host = ""
			p.Out.Header.Set("Authorization", "Bearer "+token)
		},
		ModifyResponse: func(resp *http.Response) error { return h.fromKubelet(req, resp) },
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if _, ok := asFailure(err); !ok {
				err = h.unavailable(req, "the kubelet does not answer: "+err.Error())
			}
			h.refuse(w, r, req, err)
		},
	}
	proxy.ServeHTTP(w, r)
	return nil
}

// fromKubelet explains a kubelet that does not let the proxy in.
func (h *Handler) fromKubelet(req request.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		return nil
	}
	_ = resp.Body.Close()
	return h.unavailable(req, fmt.Sprintf("the kubelet answered %d: it must ask who calls through this proxy, "+
		"with authentication.webhook.enabled: true and authorization.mode: Webhook", resp.StatusCode))
}

// target is where the kubelet serves something.
type target struct {
	addresses []string
	path      string
	query     url.Values
}

// locate finds the kubelet's address and path, as kube-apiserver does.
func (h *Handler) locate(r *http.Request, req request.Request, caller Caller) (target, error) {
	item, _, known, err := h.find(scope.Key{Identity: caller.Name, Resource: req.Resource, Namespace: req.Namespace, Name: req.Name})
	switch {
	case err != nil:
		return target{}, err
	case !known:
		return target{}, h.uncached(req, caller)
	case item.Name == "":
		return target{}, notFound(req)
	}
	var p pod
	if err := into(item, &p); err != nil {
		return target{}, err
	}
	if p.Spec.NodeName != h.cfg.Node {
		return target{}, h.unavailable(req, fmt.Sprintf("the pod is on node %q, which cannot be reached", p.Spec.NodeName))
	}
	asked := r.URL.Query()
	t := target{query: url.Values{}}
	if req.Subresource == "portforward" {
		t.path = "/portForward/" + req.Namespace + "/" + req.Name
		if ports := asked["ports"]; len(ports) > 0 {
			t.query.Set("port", strings.Join(ports, ","))
		}
	} else {
		container, err := p.container(asked.Get("container"), req.Name)
		if err != nil {
			return target{}, err
		}
		t.path = "/" + map[string]string{"log": "containerLogs", "exec": "exec", "attach": "attach"}[req.Subresource] +
			"/" + req.Namespace + "/" + req.Name + "/" + container
		t.query = streamQuery(req.Subresource, asked)
	}
	t.addresses, err = h.kubeletAddresses(caller)
	return t, err
}

// streamQuery writes options as the kubelet reads them.
func streamQuery(subresource string, asked url.Values) url.Values {
	out := url.Values{}
	if subresource == "log" {
		for _, name := range []string{"follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"} {
			carry(out, asked, name)
		}
		return out
	}
	for name, kubelets := range map[string]string{"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"} {
		if wanted, _ := strconv.ParseBool(asked.Get(name)); wanted {
			out.Set(kubelets, "1")
		}
	}
	if subresource == "exec" {
		carry(out, asked, "command")
	}
	return out
}

func carry(out, in url.Values, name string) {
	if values, ok := in[name]; ok {
		out[name] = values
	}
}

// pod is what of a Pod says where its containers are.
type pod struct {
	Spec struct {
		NodeName            string
		Containers          []named
		InitContainers      []named
		EphemeralContainers []named
	}
}

type named struct{ Name string }

// container finds the container that is meant, in kube-apiserver's words where it cannot.
func (p pod) container(asked, name string) (string, error) {
	all := slices.Concat(p.Spec.InitContainers, p.Spec.Containers, p.Spec.EphemeralContainers)
	switch {
	case asked != "" && slices.Contains(all, named{asked}):
		return asked, nil
	case asked != "":
		return "", badRequest("container %s is not valid for pod %s", asked, name)
	case len(p.Spec.Containers) == 1:
		return p.Spec.Containers[0].Name, nil
	case len(p.Spec.Containers) == 0:
		return "", badRequest("a container name must be specified for pod %s", name)
	}
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.Name
	}
	return "", badRequest("a container name must be specified for pod %s, choose one of: [%s]", name, strings.Join(names, " "))
}

// kubeletAddresses says where the kubelet listens: on loopback, or else where the node says.
func (h *Handler) kubeletAddresses(caller Caller) ([]string, error) {
	nodes := scope.Resource{Version: "v1", Resource: "nodes"}
	item, _, _, err := h.find(scope.Key{Identity: caller.Name, Resource: nodes, Name: h.cfg.Node})
	if err != nil {
		return nil, err
	}
	var node struct {
		Status struct {
			Addresses       []struct{ Type, Address string }
			DaemonEndpoints struct {
				KubeletEndpoint struct{ Port int }
			}
		}
	}
	if item.Name != "" {
		if item, err = h.seenBy(caller, nodes).see(item); err != nil {
			return nil, err
		}
		if err := into(item, &node); err != nil {
			return nil, err
		}
	}
	port := node.Status.DaemonEndpoints.KubeletEndpoint.Port
	if port == 0 {
		port = 10250
	}
	addresses := []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	for _, a := range node.Status.Addresses {
		if a.Type == "InternalIP" {
			addresses = append(addresses, net.JoinHostPort(a.Address, strconv.Itoa(port)))
		}
	}
	return addresses, nil
}
