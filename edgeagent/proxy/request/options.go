package request

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/selector"
)

// The values of Options.Match.
const (
	Exact        = "Exact"
	NotOlderThan = "NotOlderThan"
)

// Options are the list options of a request, as kube-apiserver completes them.
type Options struct {
	// Labels and Fields are the selectors in canonical form.
	Labels, Fields            string
	Limit                     int64
	Continue, ResourceVersion string
	// Match is resourceVersionMatch: "", Exact or NotOlderThan.
	Match string
	// SendInitialEvents is set also where the client left it out but asked for it: a watch from "" or "0" begins with what
	// there is, and the bookmark after that comes only with AllowBookmarks.
	SendInitialEvents *bool
	AllowBookmarks    bool
	Timeout           time.Duration
	Watch             bool
	// Shard is shardSelector. It is behind a feature gate that is off; what carries one must not be answered from a scope.
	Shard string
}

// InitialEvents tells whether a watch begins with the objects that are there.
func (o Options) InitialEvents() bool {
	return o.Watch && o.SendInitialEvents != nil && *o.SendInitialEvents
}

// parseOptions reads a query as apimachinery converts it: the first value of each name counts.
func parseOptions(query url.Values) (Options, error) {
	o := Options{
		Continue:        query.Get("continue"),
		ResourceVersion: query.Get("resourceVersion"),
		Match:           query.Get("resourceVersionMatch"),
		AllowBookmarks:  truth(query, "allowWatchBookmarks"),
		Watch:           truth(query, "watch"),
		Shard:           query.Get("shardSelector"),
	}
	if query.Has("sendInitialEvents") {
		wanted := truth(query, "sendInitialEvents")
		o.SendInitialEvents = &wanted
	}
	seconds, err := number(query, "timeoutSeconds")
	if err != nil {
		return o, err
	}
	o.Timeout = min(max(time.Duration(seconds), 0), 365*24*3600) * time.Second
	if o.Limit, err = number(query, "limit"); err != nil {
		return o, err
	}
	labels, err := selector.ParseLabels(query.Get("labelSelector"))
	if err != nil {
		return o, badRequest("%s", err)
	}
	fields, err := selector.ParseFields(query.Get("fieldSelector"))
	if err != nil {
		return o, badRequest("%s", err)
	}
	o.Labels, o.Fields = labels.String(), fields.String()
	return o, nil
}

// truth reads a boolean: only "0" and "false" are false.
func truth(query url.Values, name string) bool {
	values := query[name]
	return len(values) > 0 && values[0] != "0" && !strings.EqualFold(values[0], "false")
}

// number reads a number; absent is 0.
func number(query url.Values, name string) (int64, error) {
	values := query[name]
	if len(values) == 0 {
		return 0, nil
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil {
		return 0, badRequest("%s", err)
	}
	return n, nil
}

// defaults does what kube-apiserver does for clients from before WatchList.
func (o *Options) defaults() {
	if !o.Watch || o.SendInitialEvents != nil || o.Match != "" {
		return
	}
	if o.ResourceVersion == "" || o.ResourceVersion == "0" {
		wanted := true
		o.SendInitialEvents, o.Match = &wanted, NotOlderThan
	}
}

// validate refuses the combinations that kube-apiserver refuses, in its words.
func (o *Options) validate() error {
	var causes []Cause
	if o.Watch {
		causes = o.illegalWatch()
	} else {
		causes = o.illegalList()
	}
	if len(causes) > 0 {
		return invalid(causes)
	}
	if !o.Watch && o.Continue != "" && o.ResourceVersion != "" && o.ResourceVersion != "0" {
		return badRequest("specifying resource version is not allowed when using continue")
	}
	return nil
}

// illegalList gives what is wrong with a list's options.
func (o *Options) illegalList() (causes []Cause) {
	if o.Match != "" {
		if o.ResourceVersion == "" {
			causes = append(causes, forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"))
		}
		if o.Continue != "" {
			causes = append(causes, forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided"))
		}
		if o.Match != Exact && o.Match != NotOlderThan {
			causes = append(causes, unsupported("resourceVersionMatch", o.Match, Exact, NotOlderThan, ""))
		}
		if o.Match == Exact && o.ResourceVersion == "0" {
			causes = append(causes, forbidden("resourceVersionMatch", `resourceVersionMatch "exact" is forbidden for resourceVersion "0"`))
		}
	}
	if o.SendInitialEvents != nil {
		causes = append(causes, forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
	}
	return causes
}

// illegalWatch gives what is wrong with a watch's options.
func (o *Options) illegalWatch() (causes []Cause) {
	if o.SendInitialEvents != nil && o.Match != NotOlderThan {
		causes = append(causes, forbidden("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
	}
	if o.Match == "" {
		return causes
	}
	if o.SendInitialEvents == nil {
		causes = append(causes, forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
	}
	if o.Match != NotOlderThan {
		causes = append(causes, unsupported("resourceVersionMatch", o.Match, NotOlderThan))
	}
	if o.Continue != "" {
		causes = append(causes, forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided"))
	}
	return causes
}
