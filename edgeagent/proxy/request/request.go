// Package request says what a request to the Kubernetes API asks for: verb, resource, namespace, name and list options, as
// kube-apiserver reads them from the URL. The proxy must see each request exactly as the API server does: what it would file
// under another resource or selector would later be answered to the wrong question.
package request

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/selector"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Request is one request, parsed. It is a resource request if Resource.Resource is not "".
type Request struct {
	// Verb is get, list, watch, create, update, patch, delete, deletecollection or proxy (the old /proxy/ paths). For requests
	// without resource it is the HTTP method in lower case. exec, attach and the like are get or create with a Subresource.
	Verb     string
	Resource scope.Resource
	// Subresource is "status", "exec", "token" …
	Subresource string
	// Namespace is "" for namespaces themselves, as in their metadata; kube-apiserver's authorizers have the name in both.
	Namespace string
	// Name is the object's name. For a list or watch it is the name that the field selector metadata.name asks for, as
	// kube-apiserver has it for authorization.
	Name string
	// Path is the URL's path, decoded.
	Path string
	// Rest is what follows a subresource: "/a/b" in /api/v1/namespaces/n/pods/p/proxy/a/b.
	Rest string
	// Options are set for get, list, watch and deletecollection.
	Options Options
}

// Resourceful tells whether the request is for a resource, not for a path like /version.
func (r Request) Resourceful() bool { return r.Resource.Resource != "" }

// Key names the scope that a get, list or watch reads. For a get it has the name, for the others the selectors.
func (r Request) Key(identity string) scope.Key {
	key := scope.Key{Identity: identity, Resource: r.Resource, Namespace: r.Namespace}
	if r.Verb == "get" {
		key.Name = r.Name
		return key
	}
	key.Labels, key.Fields = r.Options.Labels, r.Options.Fields
	return key
}

// bounds of what is parsed. Kubernetes has no longer names, and a URL of ours has no use for more.
const (
	maxPart  = 1024
	maxParts = 64
	maxQuery = 64 << 10
)

// Parse reads what is asked for. The error is an *Error, ready to be answered; the Request then holds what is known so far, so
// that a request can be passed upstream although it is wrong. Nothing of the body is read.
func Parse(r *http.Request) (Request, error) {
	req := Request{Verb: strings.ToLower(r.Method), Path: r.URL.Path}
	parts := split(r.URL.Path)
	if err := bounded(parts, r.URL.RawQuery); err != nil {
		return req, err
	}
	parts, ok := req.version(parts)
	if !ok {
		return req, nil
	}
	special, parts, err := req.verb(r.Method, parts)
	if err != nil {
		return req, err
	}
	req.place(parts)
	if req.Subresource != "" {
		return req, nil
	}
	return req, req.options(r, special)
}

// version takes the API prefix, group and version off a path. Not ok: the path names no resource.
func (r *Request) version(parts []string) ([]string, bool) {
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		r.Resource.Version = parts[1]
		return parts[2:], true
	case len(parts) >= 4 && parts[0] == "apis":
		r.Resource.Group, r.Resource.Version = parts[1], parts[2]
		return parts[3:], true
	}
	return nil, false
}

// verb finds the verb, in the path or in the method.
func (r *Request) verb(method string, parts []string) (special bool, rest []string, err error) {
	if parts[0] == "proxy" || parts[0] == "watch" {
		if len(parts) < 2 {
			r.Resource = scope.Resource{}
			return true, nil, badRequest("unable to determine kind and namespace from url, %s", r.Path)
		}
		r.Verb = parts[0]
		return true, parts[1:], nil
	}
	switch method {
	case http.MethodPost:
		r.Verb = "create"
	case http.MethodGet, http.MethodHead:
		r.Verb = "get"
	case http.MethodPut:
		r.Verb = "update"
	case http.MethodPatch:
		r.Verb = "patch"
	case http.MethodDelete:
		r.Verb = "delete"
	default:
		r.Verb = ""
	}
	return false, parts, nil
}

// place finds namespace, resource, name and subresource.
func (r *Request) place(parts []string) {
	if parts[0] == "namespaces" && len(parts) > 1 {
		r.Namespace = parts[1]
		// namespaces/NAME/status and /finalize are subresources of the namespace; anything else is a resource in it.
		if len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
			parts = parts[2:]
		}
	}
	r.Resource.Resource = parts[0]
	if r.Resource.Resource == "namespaces" && r.Resource.Group == "" {
		r.Namespace = ""
	}
	if len(parts) > 1 {
		r.Name = parts[1]
	}
	if len(parts) > 2 && r.Verb != "proxy" {
		r.Subresource = parts[2]
		if len(parts) > 3 {
			r.Rest = "/" + strings.Join(parts[3:], "/")
		}
	}
}

// options reads the list options of a request that has any, and tells list and watch from get.
func (r *Request) options(h *http.Request, special bool) error {
	collection := r.Name == ""
	if collection && r.Verb == "delete" {
		r.Verb = "deletecollection"
	}
	get := r.Verb == "get"
	if !get && r.Verb != "watch" && r.Verb != "deletecollection" {
		return nil
	}
	options, err := parseOptions(h.URL.Query())
	if get && collection {
		r.Verb = "list"
		if options.Watch {
			r.Verb = "watch"
		}
	}
	r.Options = options
	switch {
	case err != nil:
		return err
	case r.Verb == "get":
		return nil
	case r.Verb == "watch" && special:
		r.Options.Watch = true
	}
	r.Options.defaults()
	if err := r.Options.validate(); err != nil {
		return err
	}
	return r.name(collection)
}

// name brings a name in the path and one in the field selector together.
func (r *Request) name(collection bool) error {
	name, selected := selector.Name(r.Options.Fields)
	switch {
	case collection && selected && isPathSegment(name):
		r.Name = name
	case collection:
	case r.Options.Fields == "":
		// A watch of one object: /api/v1/watch/namespaces/n/pods/p.
		r.Options.Fields = selector.ByName(r.Name)
	case name != r.Name:
		return badRequest("fieldSelector metadata.name doesn't match requested name")
	}
	return nil
}

// isPathSegment tells whether a name can be a part of a path: if not, kube-apiserver does not take it for a name.
func isPathSegment(name string) bool {
	return name != "." && name != ".." && !strings.ContainsAny(name, "/%")
}

// split cuts a path into its segments.
func split(path string) []string {
	path = strings.Trim(path, "/")
	if path == "" {
		return nil
	}
	return strings.SplitN(path, "/", maxParts+1)
}

// bounded refuses what no client of Kubernetes sends.
func bounded(parts []string, query string) error {
	if len(query) > maxQuery {
		return badRequest("the query is %d bytes long: at most %d are read", len(query), maxQuery)
	}
	for i, part := range parts {
		// What follows a subresource belongs to whoever is behind it.
		if i < 8 && len(part) > maxPart {
			return badRequest("a part of the path is %d bytes long: at most %d are read", len(part), maxPart)
		}
		if i < 8 && !utf8.ValidString(part) {
			return badRequest("a part of the path is not UTF-8: %q", part)
		}
	}
	return nil
}
