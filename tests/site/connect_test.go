package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestConnectLeadsThoseWithThePasswordToTheSite(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "the site")
	}))
	defer site.Close()
	proxy := httptest.NewServer(connect(sites{plain: strings.TrimPrefix(site.URL, "http://")}, "ada", "secret"))
	defer proxy.Close()
	for password, status := range map[string]string{"secret": "200", "other": "407"} {
		at, _ := url.Parse(proxy.URL)
		at.User = url.UserPassword("ada", password)
		var got string
		transport := &http.Transport{Proxy: http.ProxyURL(at)}
		// A tunnel is asked for where the URL says https; the site speaks none, so the answer to CONNECT is what is looked at.
		transport.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
			got = answer.Status[:3]
			return nil
		}
		_, _ = (&http.Client{Transport: transport}).Get("https://93.184.216.34/")
		if got != status {
			t.Errorf("%s: %s", password, got)
		}
	}
}
