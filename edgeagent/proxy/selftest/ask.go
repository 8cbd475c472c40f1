package selftest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
)

// answer is what a request of the boot would be answered. It is also the ResponseWriter that it is written to.
type answer struct {
	code int
	head http.Header
	body bytes.Buffer
}

func (a *answer) Header() http.Header { return a.head }

func (a *answer) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

func (a *answer) decode(into any) error {
	if err := json.Unmarshal(a.body.Bytes(), into); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// drop lets go of a body that was only asked for to see whether it would come.
func (a *answer) drop() { a.body = bytes.Buffer{} }

// why says why there is no answer.
func (a *answer) why() string {
	var status struct{ Message string }
	if json.Unmarshal(a.body.Bytes(), &status) != nil || status.Message == "" {
		return fmt.Sprintf("it would be answered with %d", a.code)
	}
	return strings.TrimPrefix(status.Message, "holdfast: offline: ")
}

// get asks once for each path: pods share much.
func (b *boot) get(path string) *answer {
	if a := b.asked[path]; a != nil {
		return a
	}
	a := b.ask(http.MethodGet, path, nil)
	b.asked[path] = a
	return a
}

func (b *boot) post(path string, object any) *answer {
	raw, err := json.Marshal(object)
	if err != nil {
		return &answer{code: http.StatusInternalServerError}
	}
	a := b.ask(http.MethodPost, path, raw)
	b.asked[path+" "+string(raw)] = a
	return a
}

// ask has a request answered as it would be offline. An answer that breaks off is none.
func (b *boot) ask(method, path string, body []byte) (a *answer) {
	a = &answer{head: http.Header{}}
	r, err := http.NewRequestWithContext(b.ctx, method, path, bytes.NewReader(body))
	if err != nil {
		a.code = http.StatusBadRequest
		return a
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json")
	req, err := request.Parse(r)
	if err != nil {
		a.code = http.StatusBadRequest
		return a
	}
	defer func() {
		if p := recover(); p == http.ErrAbortHandler {
			a = &answer{code: http.StatusInternalServerError}
		} else if p != nil {
			panic(p)
		}
	}()
	b.cfg.Serve(a, r, req)
	return a
}
