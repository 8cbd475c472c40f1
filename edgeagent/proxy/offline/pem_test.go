package offline_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/offline"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
)

func pemOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func httpGet(path string) *http.Request { return httptest.NewRequest("GET", "https://x"+path, nil) }

func parse(t testing.TB, r *http.Request) request.Request {
	t.Helper()
	req, err := request.Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func caller(name string) offline.Caller {
	return offline.Caller{Name: name, Node: name == nodeUser}
}
