package media

import (
	"errors"
	"io"
	"iter"
	"net/http"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

func negotiate(*http.Request, request.Request, scope.Encoding) (Format, error) {
	return Format{}, errors.ErrUnsupported
}

func (r *Renderer) object(scope.Item) ([]byte, error) { return nil, errors.ErrUnsupported }
func (r *Renderer) list(io.Writer, wire.List, iter.Seq2[scope.Item, error]) error {
	return errors.ErrUnsupported
}
func (r *Renderer) frame([]byte, string, scope.Item) ([]byte, error) {
	return nil, errors.ErrUnsupported
}
func (r *Renderer) bookmark([]byte, string, bool) ([]byte, error) { return nil, errors.ErrUnsupported }
func convert(scope.Item, scope.Encoding) (scope.Item, error) {
	return scope.Item{}, errors.ErrUnsupported
}
func convertible(string, string) bool { return false }
func partial(scope.Item, string, scope.Encoding) (scope.Item, error) {
	return scope.Item{}, errors.ErrUnsupported
}
func compile(scope.Key, scope.Kind, scope.Item) (Match, error) { return nil, errors.ErrUnsupported }

type body struct{ http.ResponseWriter }

func (body) Close() error { return errors.ErrUnsupported }

func newBody(w http.ResponseWriter, _ int, _ Format) io.WriteCloser { return body{w} }
