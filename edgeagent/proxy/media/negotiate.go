package media

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/munnerz/goautoneg"
)

// maxAccept is how much of an Accept header is read. client-go's longest has about 300 bytes.
const maxAccept = 8 << 10

const (
	typeJSON     = "application/json"
	typeYAML     = "application/yaml"
	typeProtobuf = "application/vnd.kubernetes.protobuf"
	streamWatch  = ";stream=watch"
)

// Negotiate finds the form of the answer to a get, list or watch. native is how upstream answered: a resource of a built-in kind can
// be had in both encodings, any other only as it was read. The error is a *request.Error: 406, or 400 for wrong table options.
func Negotiate(r *http.Request, req request.Request, native scope.Encoding) (Format, error) {
	o := offer{native: native, resource: req.Resource}
	accept := r.Header.Get("Accept")
	if !routed(accept) && known().serves(req.Resource) {
		return Format{}, unrouted(req.Verb)
	}
	f, ok := o.choose(accept)
	if !ok {
		return Format{}, o.notAcceptable(false)
	}
	if req.Verb == "watch" {
		if f.YAML {
			return Format{}, o.notAcceptable(true)
		}
		f.Stream = true
	}
	if err := f.shape(req); err != nil {
		return Format{}, err
	}
	if f.As == Table {
		if err := f.table(r.URL.Query().Get("includeObject")); err != nil {
			return Format{}, err
		}
	}
	f.Pretty = f.Encoding == scope.JSON && !f.YAML && !f.Stream && (f.Pretty || pretty(r))
	f.Gzip = !f.Stream && TakesGzip(r.Header.Get("Accept-Encoding"))
	return f, nil
}

// offer is what a resource can be had as.
type offer struct {
	native   scope.Encoding
	resource scope.Resource
}

// choose finds the first clause of the Accept header, in kube-apiserver's order, that can be met.
func (o offer) choose(accept string) (Format, bool) {
	if len(accept) > maxAccept {
		return Format{}, false
	}
	if accept == "" {
		accept = "*/*"
	}
	for _, clause := range goautoneg.ParseAccept(accept) {
		for _, media := range []string{typeJSON, typeYAML, typeProtobuf} {
			if !meets(clause.Type, clause.SubType, media) {
				continue
			}
			if f, ok := o.meet(media, clause.Params); ok {
				return f, true
			}
		}
	}
	return Format{}, false
}

// routed tells whether kube-apiserver's router lets a request for a built-in kind pass. It looks for the media types as they are
// written, without parameters, before anything is negotiated: "application/*" does not pass.
func routed(accept string) bool {
	if accept == "" {
		return true
	}
	for part := range strings.SplitSeq(accept, ",") {
		media, _, _ := strings.Cut(part, ";")
		switch strings.TrimSpace(media) {
		case "*/*", typeJSON, typeYAML, typeProtobuf:
			return true
		}
	}
	return false
}

// unrouted is the router's answer.
func unrouted(verb string) error {
	types := []string{typeJSON, typeYAML, typeProtobuf}
	if verb != "get" {
		types = append(types, typeJSON+streamWatch, typeProtobuf+streamWatch)
	}
	return notAcceptable("406: Not Acceptable\n\nAvailable representations: " + strings.Join(types, ", "))
}

// meets tells whether a clause names a media type.
func meets(kind, sub, media string) bool {
	wantKind, wantSub, _ := strings.Cut(media, "/")
	switch {
	case kind == "*":
		return sub == "*"
	case kind != wantKind:
		return false
	}
	return sub == "*" || sub == wantSub
}

// meet tells whether a media type can be had with a clause's parameters.
func (o offer) meet(media string, params map[string]string) (Format, bool) {
	f := Format{Encoding: scope.JSON, YAML: media == typeYAML}
	if media == typeProtobuf {
		f.Encoding = scope.Protobuf
	}
	as, group, version, transform := params["as"], params["g"], params["v"], false
	for name, value := range params {
		switch name {
		case "as", "g", "v":
			transform = true
		case "stream":
			if value != "" && (f.YAML || value != "watch") {
				return f, false
			}
		case "sv":
			if value != "" && value != "v1" {
				return f, false
			}
		case "pretty":
			f.Pretty = value == "1"
		}
	}
	if !transform {
		return f, o.has(f.Encoding)
	}
	if group != metaGroup || version != "v1" && version != "v1beta1" {
		return f, false
	}
	f.MetaVersion = version
	switch as {
	case "Table":
		f.As = Table
		return f, f.Encoding == scope.JSON && o.has(scope.JSON)
	case "PartialObjectMetadata":
		f.As = Metadata
	case "PartialObjectMetadataList":
		f.As, f.list = Metadata, true
	default:
		return f, false
	}
	return f, true
}

// has tells whether whole objects can be had in an encoding.
func (o offer) has(e scope.Encoding) bool { return e == o.native || known().serves(o.resource) }

// shape refuses a list of metadata where one object is asked for, and the reverse.
func (f *Format) shape(req request.Request) error {
	if f.As != Metadata || f.list == (req.Verb == "list") {
		return nil
	}
	if f.list {
		return notAcceptable("you requested PartialObjectMetadataList, but the requested object is not a list")
	}
	if req.Verb == "list" {
		return notAcceptable("you requested PartialObjectMetadata, but the requested object is a list")
	}
	return nil
}

// table reads the options of a Table.
func (f *Format) table(include string) error {
	switch include {
	case "", "Metadata":
		f.Include = "Metadata"
	case "None", "Object":
		f.Include = include
	default:
		return &request.Error{Code: http.StatusBadRequest, Reason: "BadRequest", Message: fmt.Sprintf(
			"Unable to convert to Table as requested: includeObject: Invalid value: %q: must be 'Metadata', 'Object', 'None', or empty", include)}
	}
	return nil
}

// notAcceptable says what could be had instead.
func (o offer) notAcceptable(stream bool) error {
	var types []string
	if o.has(scope.JSON) && stream {
		types = append(types, typeJSON+streamWatch)
	} else if o.has(scope.JSON) {
		types = append(types, typeJSON, typeYAML)
	}
	// kube-apiserver names protobuf for custom resources too: it can be had for their metadata.
	if stream {
		types = append(types, typeProtobuf+streamWatch)
	} else {
		types = append(types, typeProtobuf)
	}
	return notAcceptable("only the following media types are accepted: " + strings.Join(types, ", "))
}

func notAcceptable(message string) error {
	return &request.Error{Code: http.StatusNotAcceptable, Reason: "NotAcceptable", Message: message}
}

// pretty tells whether a person asks.
func pretty(r *http.Request) bool {
	if strings.Contains(r.URL.RawQuery, "pretty") {
		if wanted := r.URL.Query().Get("pretty"); wanted != "" {
			yes, err := strconv.ParseBool(wanted)
			return err == nil && yes
		}
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// TakesGzip reads Accept-Encoding as kube-apiserver does: a coding with a quality is none.
func TakesGzip(accept string) bool {
	for coding := range strings.SplitSeq(accept, ",") {
		if coding = strings.TrimSpace(coding); coding == "gzip" || coding == "*" {
			return true
		}
	}
	return false
}
