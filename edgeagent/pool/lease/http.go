package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Handler takes what members send over HTTP. member gives the name of the authenticated caller.
func Handler(n *Node, member func(*http.Request) (string, bool)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, ok := member(r)
		if !ok {
			http.Error(w, "only members of the pool may speak about its leases", http.StatusForbidden)
			return
		}
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "leases take POST", http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxMessage))
		if err != nil {
			http.Error(w, "read the message: "+err.Error(), http.StatusBadRequest)
			return
		}
		m, err := Decode(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer := n.Receive(from, m)
		if answer == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer.Encode())
	})
}

// HTTP is the Transport to Handler.
type HTTP struct {
	// Client gives a client that reaches only that member, and the URL of the lease there.
	Client func(member string) (client *http.Client, url string, err error)
}

// Send implements Transport.
func (t HTTP) Send(ctx context.Context, to string, m Message) (*Message, error) {
	client, url, err := t.Client(to)
	if err != nil {
		return nil, fmt.Errorf("reach member %s: %w", to, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(m.Encode()))
	if err != nil {
		return nil, fmt.Errorf("reach member %s: %w", to, err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("reach member %s: %w", to, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, MaxMessage+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer of member %s: %w", to, err)
	case response.StatusCode == http.StatusNoContent:
		return nil, nil
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("member %s refuses the message: %w", to, errors.New(response.Status))
	}
	answer, err := Decode(body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of member %s: %w", to, err)
	}
	return &answer, nil
}
