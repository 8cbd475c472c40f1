package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
)

// maxEvent bounds one event of a watch.
const maxEvent = 4 << 20

// Watch calls each with the metadata of the one object of that name whenever it changes, first as it is now, and with
// nil when it is deleted. It returns nil when the server ends the stream, which it does within the hour, and an error
// if the stream breaks. The path is the collection's.
func (c *Client) Watch(ctx context.Context, path, name string, each func(metadata json.RawMessage)) error {
	q := url.Values{
		"watch":           {"true"},
		"fieldSelector":   {"metadata.name=" + name},
		"resourceVersion": {"0"},                                  // from the server's cache: it costs etcd nothing, and events make up for what is old
		"timeoutSeconds":  {strconv.Itoa(2400 + rand.IntN(1200))}, // spread, so that a fleet does not reconnect together
	}
	resp, err := c.send(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	limited := &io.LimitedReader{R: resp.Body}
	dec := json.NewDecoder(limited)
	for {
		var event struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		limited.N = maxEvent
		if err := dec.Decode(&event); err != nil {
			if errors.Is(err, io.EOF) && limited.N > 0 {
				return nil
			}
			return c.noAnswer(ctx, fmt.Errorf("watch %s: %w", path, err))
		}
		switch event.Type {
		case "ADDED", "MODIFIED":
			each(event.Object)
		case "DELETED":
			each(nil)
		case "ERROR":
			return watchError(path, event.Object)
		}
	}
}

func watchError(path string, raw json.RawMessage) error {
	var status struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(raw, &status); err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	return statusError(status.Code, fmt.Errorf("watch %s: %d: %s", path, status.Code, status.Message))
}
