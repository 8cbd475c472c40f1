package offline

import (
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// isToken tells whether a request asks for a service account's token.
func isToken(req request.Request) bool {
	return req.Resource == scope.Resource{Version: "v1", Resource: "serviceaccounts"} && req.Subresource == "token" && req.Verb == "create"
}

// tokenRequest is what of a TokenRequest says which token is meant. How long it is to hold does not.
type tokenRequest struct {
	Metadata struct {
		UID string `json:"uid"`
	} `json:"metadata"`
	Spec struct {
		Audiences      []string `json:"audiences"`
		BoundObjectRef struct {
			Kind, Name, UID string
		} `json:"boundObjectRef"`
	} `json:"spec"`
}

// tokenKey files a token by who asked for it and for what.
func tokenKey(caller, namespace, account string, t tokenRequest) string {
	audiences := slices.Clone(t.Spec.Audiences)
	slices.Sort(audiences)
	bound := t.Spec.BoundObjectRef
	return fmt.Sprintf("%q %q %q %q %q %q %q %q", caller, namespace, account, t.Metadata.UID, audiences, bound.Kind, bound.Name, bound.UID)
}

// TokenKey files the token that a kubelet asks for on behalf of a pod. Package selftest looks for it.
func TokenKey(node, namespace, account, pod, uid string, audiences ...string) string {
	var t tokenRequest
	t.Spec.Audiences = audiences
	t.Spec.BoundObjectRef.Kind, t.Spec.BoundObjectRef.Name, t.Spec.BoundObjectRef.UID = "Pod", pod, uid
	return tokenKey("system:node:"+node, namespace, account, t)
}

// token answers a token request with the newest real answer to the same question, also an expired one: the pod then starts, and the
// token authenticates nobody.
func (h *Handler) token(w http.ResponseWriter, r *http.Request, req request.Request, caller Caller) error {
	item, _, err := readObject(w, r, "authentication.k8s.io/v1", "TokenRequest", maxQuestion)
	if err != nil {
		return err
	}
	var asked tokenRequest
	if err := into(item, &asked); err != nil {
		return badRequest("%v", err)
	}
	kept, ok, err := h.cfg.Store.Token(tokenKey(caller.Name, req.Namespace, req.Name, asked))
	switch {
	case err != nil:
		return fmt.Errorf("read kept token: %w", err)
	case !ok || len(kept) < 2:
		return h.unavailable(req, "no token for that purpose was issued while online")
	}
	answer, err := wire.Inner(scope.Encoding(kept[0]), "authentication.k8s.io/v1", "TokenRequest", kept[1:])
	if err != nil {
		return fmt.Errorf("read kept token: %w", err)
	}
	return h.one(w, r, req, http.StatusCreated, answer)
}

// rememberToken keeps upstream's answer to a token request.
func (h *Handler) rememberToken(req request.Request, caller Caller, e Exchange) error {
	body, err := objectOf(e.RequestType, e.Request, "authentication.k8s.io/v1", "TokenRequest")
	if err != nil {
		return err
	}
	var asked tokenRequest
	if err := into(body, &asked); err != nil {
		return err
	}
	answer, err := objectOf(e.ResponseType, e.Response, "authentication.k8s.io/v1", "TokenRequest")
	if err != nil {
		return err
	}
	raw := append([]byte{byte(answer.Encoding)}, answer.Raw...)
	h.cfg.Store.PutToken(tokenKey(caller.Name, req.Namespace, req.Name, asked), raw)
	return nil
}

// Remembers tells whether Remember is of use.
func (h *Handler) Remembers(req request.Request) bool { return isToken(req) || isReview(req) }

// Remember keeps what upstream said. Only a yes that was meant to last is kept, and never what somebody was told in another's name.
func (h *Handler) Remember(req request.Request, caller Caller, e Exchange) {
	if e.Code != http.StatusCreated && e.Code != http.StatusOK || caller.Impersonates || caller.Name == "" {
		return
	}
	if kind, params, err := mime.ParseMediaType(e.ResponseType); err != nil || strings.Contains(params["as"], "Partial") || kind == "application/yaml" {
		return
	}
	var err error
	if isToken(req) {
		err = h.rememberToken(req, caller, e)
	} else if isReview(req) {
		err = h.rememberReview(req, caller, e)
	}
	if err != nil {
		h.cfg.Log.Warn("remember an answer", "path", req.Path, "err", err)
	}
}
