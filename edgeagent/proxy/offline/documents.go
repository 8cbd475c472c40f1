package offline

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"sort"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/media"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// shared is the identity of documents that say the same to everyone: what the API offers.
const shared = ""

// isDiscovery tells whether a path says what the API offers, in kube-apiserver's role system:discovery.
func isDiscovery(path string) bool {
	path = strings.TrimSuffix(path, "/")
	switch path {
	case "/api", "/api/v1", "/apis", "/version", "/openapi/v2", "/openapi/v3", "/.well-known/openid-configuration", "/openid/v1/jwks":
		return true
	}
	if strings.HasPrefix(path, "/openapi/v3/") {
		return true
	}
	rest, ok := strings.CutPrefix(path, "/apis/")
	return ok && strings.Count(rest, "/") <= 1
}

// Document tells where a whole answer is kept: its path and query, and as what it was answered.
func (h *Handler) Document(r *http.Request, req request.Request, caller Caller, contentType string) (identity, path string, ok bool) {
	form, err := formOf(contentType)
	if r.Method != http.MethodGet || err != nil {
		return "", "", false
	}
	switch {
	case !req.Resourceful() && isDiscovery(r.URL.Path):
		return shared, documentPath(r.URL, form), true
	case req.Resourceful() && req.Verb != "watch" && strings.Contains(form, "as=Table"):
		return caller.Name, documentPath(r.URL, form), caller.Name != ""
	}
	return "", "", false
}

// documentPath names a document. How long a client would wait says nothing of the answer: kubectl asks for "/api?timeout=32s".
func documentPath(u *url.URL, form string) string {
	path := strings.TrimSuffix(u.Path, "/")
	query := u.Query()
	query.Del("timeout")
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return path + " " + form
}

// formOf writes a media type in one way: "application/json;as=APIGroupDiscoveryList;g=apidiscovery.k8s.io;v=v2". What does not
// change the answer's form is left out.
func formOf(contentType string) (string, error) {
	// OpenAPI's type has an @ where RFC 2045 allows none; kube-apiserver answers with a dot.
	kind, params, err := mime.ParseMediaType(strings.Replace(contentType, "@", ".", 1))
	if err != nil {
		return "", fmt.Errorf("read media type %q: %w", contentType, err)
	}
	var parts []string
	for _, name := range []string{"as", "g", "v"} {
		if value := params[name]; value != "" {
			parts = append(parts, name+"="+value)
		}
	}
	sort.Strings(parts)
	return strings.Join(append([]string{kind}, parts...), ";"), nil
}

// defaultForms are tried for a client that takes anything.
var defaultForms = []string{"application/json", "text/plain", "application/jwk-set+json"}

// forms gives the forms that a client takes, in its order.
func forms(r *http.Request) []string {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if accept == "" {
		return defaultForms
	}
	var out []string
	for _, clause := range strings.Split(accept, ",") {
		form, err := formOf(strings.TrimSpace(clause))
		switch {
		case err != nil:
		case form == "*/*", form == "application/*":
			out = append(out, defaultForms...)
		default:
			out = append(out, form)
		}
	}
	return out
}

// path answers what is no resource: the proxy's own health, and documents.
func (h *Handler) path(w http.ResponseWriter, r *http.Request, req request.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return h.noPath(r)
	}
	switch path, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); path {
	case "healthz", "livez", "readyz":
		// Whoever asks wants to know whether there is somebody to talk to. There is: this proxy.
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache, private")
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte("ok"))
		return nil
	}
	if isDiscovery(r.URL.Path) {
		served, err := h.document(w, r, shared)
		if served || err != nil {
			return err
		}
	}
	return h.noPath(r)
}

func (h *Handler) noPath(r *http.Request) error {
	return &failure{code: http.StatusServiceUnavailable, reason: "ServiceUnavailable", retry: 1,
		message: fmt.Sprintf("holdfast: offline, and %s %s is not cached", r.Method, r.URL.Path)}
}

// table answers with a Table that was kept whole, where no scope covers what it shows.
func (h *Handler) table(w http.ResponseWriter, r *http.Request, caller Caller) bool {
	if caller.Name == "" || !strings.Contains(r.Header.Get("Accept"), "as=Table") {
		return false
	}
	served, err := h.document(w, r, caller.Name)
	if err != nil {
		h.cfg.Log.Warn("answer with a kept table", "path", r.URL.Path, "err", err)
	}
	return served
}

// document answers with what was kept, in the first form that the client takes.
func (h *Handler) document(w http.ResponseWriter, r *http.Request, identity string) (bool, error) {
	for _, form := range forms(r) {
		if identity != shared && !strings.Contains(form, "as=Table") {
			continue
		}
		d, ok, err := h.cfg.Store.Document(identity, documentPath(r.URL, form))
		if err != nil {
			return false, fmt.Errorf("read %s: %w", r.URL.Path, err)
		}
		if ok {
			err := h.writeDocument(w, r, d)
			return err == nil, err
		}
	}
	return false, nil
}

// writeDocument sends a document compressed to who takes it so, if it is kept so.
func (h *Handler) writeDocument(w http.ResponseWriter, r *http.Request, d scope.Document) error {
	zipped := d.Gzipped && media.TakesGzip(r.Header.Get("Accept-Encoding"))
	body := io.Reader(bytes.NewReader(d.Body))
	if !zipped {
		var err error
		if body, err = d.Reader(); err != nil {
			return fmt.Errorf("read %s: %w", r.URL.Path, err)
		}
	}
	h.age(w, d.Read)
	head := w.Header()
	head.Set("Vary", "Accept")
	if d.Gzipped {
		head.Set("Vary", "Accept, Accept-Encoding")
	}
	if d.ETag != "" {
		head.Set("ETag", d.ETag)
		if matches(r.Header.Get("If-None-Match"), d.ETag) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	head.Set("Content-Type", d.ContentType)
	if zipped {
		head.Set("Content-Encoding", "gzip")
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	if _, err := io.Copy(w, body); err != nil {
		panic(http.ErrAbortHandler) // the client is gone, or must see that the answer is not complete
	}
	return nil
}

// matches tells whether an If-None-Match names an ETag.
func matches(header, etag string) bool {
	for _, tag := range strings.Split(header, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == "*" || tag != "" && tag == strings.TrimPrefix(etag, "W/") {
			return true
		}
	}
	return false
}
