package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// What a request over HTTP/1.1 costs is, besides system calls, mostly net/http's writing and reading of headers for every case there is.
// These two do the usual ones; whatever is unusual is left to net/http.

// appendRequest writes a request without a body. Not ok: it is unusual.
func appendRequest(b []byte, req *http.Request) (out []byte, ok bool) {
	uri := req.URL.RequestURI()
	if len(req.TransferEncoding) > 0 || req.Close || strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return b, false
	}
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	b = append(append(append(b, req.Method...), ' '), uri...)
	b = append(append(append(b, " HTTP/1.1\r\nHost: "...), host...), "\r\n"...)
	for name, values := range req.Header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer", "Connection":
			return b, false
		}
		if !httpguts.ValidHeaderFieldName(name) {
			return b, false
		}
		for _, value := range values {
			if value == "" && name == "User-Agent" {
				continue // it means that none is sent
			}
			if !httpguts.ValidHeaderFieldValue(value) {
				return b, false
			}
			b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
		}
	}
	return append(b, "\r\n"...), true
}

// readAnswer reads the head of an answer to a GET. nil without an error: it is unusual, and nothing of it was read.
func readAnswer(r *bufio.Reader, req *http.Request) (resp *http.Response, body io.Reader, err error) {
	head, err := peekHead(r)
	if head == nil || err != nil {
		return nil, nil, err
	}
	text := string(head)
	line, rest, _ := strings.Cut(text, "\r\n")
	status, ok := strings.CutPrefix(line, "HTTP/1.1 ")
	if !ok || len(status) < 4 || status[3] != ' ' {
		return nil, nil, nil
	}
	code, err := strconv.Atoi(status[:3])
	if err != nil || code < 200 || code == http.StatusNoContent || code == http.StatusNotModified {
		return nil, nil, nil
	}
	header := readHeader(rest)
	if header == nil || header["Connection"] != nil || header["Trailer"] != nil {
		return nil, nil, nil
	}
	length, chunked, ok := framing(header)
	if !ok {
		return nil, nil, nil
	}
	r.Discard(len(head))
	resp = &http.Response{Status: status, StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header, ContentLength: length, Request: req}
	if chunked {
		delete(header, "Transfer-Encoding")
		return resp, &chunks{httputil.NewChunkedReader(r), r}, nil
	}
	return resp, &sized{r, length}, nil
}

// peekHead waits for the whole head of an answer. nil: it is longer than the buffer.
func peekHead(r *bufio.Reader) ([]byte, error) {
	for n := 1; ; {
		if _, err := r.Peek(n); err != nil {
			if errors.Is(err, bufio.ErrBufferFull) {
				err = nil
			}
			return nil, err
		}
		have, _ := r.Peek(r.Buffered())
		if end := bytes.Index(have, []byte("\r\n\r\n")); end >= 0 {
			return have[:end+4], nil
		}
		n = len(have) + 1
	}
}

// readHeader reads header lines up to an empty one. nil: they are unusual.
func readHeader(text string) http.Header {
	lines := strings.Count(text, "\r\n") - 1
	header, values := make(http.Header, lines), make([]string, lines)
	for i := 0; ; i++ {
		var line string
		if line, text, _ = strings.Cut(text, "\r\n"); line == "" {
			return header
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil
		}
		name = http.CanonicalHeaderKey(name)
		if before, ok := header[name]; ok {
			header[name] = append(before, value)
			continue
		}
		values[i] = value
		header[name] = values[i : i+1 : i+1]
	}
}

// framing tells how long a body is. Not ok: in none of the two usual ways.
func framing(h http.Header) (length int64, chunked, ok bool) {
	encodings, lengths := h["Transfer-Encoding"], h["Content-Length"]
	switch {
	case len(encodings) == 1 && len(lengths) == 0:
		return -1, true, encodings[0] == "chunked"
	case len(encodings) == 0 && len(lengths) == 1:
		n, err := strconv.ParseUint(lengths[0], 10, 63)
		return int64(n), false, err == nil
	}
	return 0, false, false
}

// sized is a body of known length.
type sized struct {
	r    *bufio.Reader
	left int64
}

func (s *sized) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	switch {
	case s.left == 0:
		err = io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// maxTrailers bounds the lines after a body in chunks. Nobody wants to know what is in them.
const maxTrailers = 64

// chunks is a body in chunks.
type chunks struct {
	io.Reader
	r *bufio.Reader
}

func (c *chunks) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err != io.EOF {
		return n, err
	}
	for range maxTrailers {
		line, err := c.r.ReadSlice('\n')
		switch {
		case err == io.EOF:
			return n, io.ErrUnexpectedEOF
		case err != nil:
			return n, err
		case string(line) == "\r\n":
			return n, io.EOF
		}
	}
	return n, errTrailers
}

var errTrailers = errors.New("the answer has too many trailers")
