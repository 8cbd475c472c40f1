package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
)

// criReady asks containerd what a kubelet asks first. After a power cut containerd says its own version before it has found its pods again, and
// a kubelet that comes too early ends. The call is gRPC with empty messages: no library is needed for that.
func (n *Node) criReady(ctx context.Context) error {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	t := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", n.socket())
	}}
	defer t.CloseIdleConnections()
	const empty = "\x00\x00\x00\x00\x00" // not compressed, no bytes
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://containerd/runtime.v1.RuntimeService/Version", bytes.NewReader([]byte(empty)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	resp, err := t.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask containerd for its version: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("ask containerd for its version: %w", err)
	}
	status, message := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if status == "" { // an answer without a body has them in its header
		status, message = resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")
	}
	if status != "0" {
		return fmt.Errorf("containerd is not ready: gRPC status %q: %s", status, message)
	}
	return nil
}
