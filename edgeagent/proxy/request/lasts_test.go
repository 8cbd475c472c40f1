package request_test

import (
	"net/url"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
)

func TestLasts(t *testing.T) {
	for target, want := range map[string]bool{
		"/api/v1/pods": false,
		"/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&limit=500":  false,
		"/api/v1/pods?labelSelector=watch%3Dtrue":                  false,
		"/api/v1/pods?watch=true":                                  true,
		"/api/v1/pods?watch":                                       true,
		"/api/v1/pods?limit=1&watch=0":                             true, // not sure is yes
		"/api/v1/pods?%77atch=1":                                   true,
		"/api/v1/watch/pods":                                       true,
		"/api/v1/namespaces/watch/pods":                            true, // a namespace of that name
		"/api/v1/namespaces/d/pods/p/log?follow=true&tailLines=10": true,
		"/api/v1/namespaces/d/pods/p/log?tailLines=10":             false,
	} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		if got := request.Lasts(u); got != want {
			t.Errorf("%s: %v, want %v", target, got, want)
		}
	}
}
