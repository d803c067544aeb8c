package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestSocksLeadsThoseWithThePasswordToTheSiteOfThePort(t *testing.T) {
	answer := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	plain, secure := httptest.NewServer(answer("plain")), httptest.NewTLSServer(answer("secure"))
	defer plain.Close()
	defer secure.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	to := sites{plain: strings.TrimPrefix(plain.URL, "http://"), secure: strings.TrimPrefix(secure.URL, "https://")}
	go func() { _ = serveSocks(listener, to, "ada", "secret") }()
	got := func(password, target string) string {
		at := &url.URL{Scheme: "socks5", Host: listener.Addr().String(), User: url.UserPassword("ada", password)}
		transport := secure.Client().Transport.(*http.Transport).Clone()
		transport.Proxy = http.ProxyURL(at)
		transport.TLSClientConfig.ServerName = "example.com"
		response, err := (&http.Client{Transport: transport}).Get(target)
		if err != nil {
			return "error"
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return string(body)
	}
	for _, one := range [][3]string{
		{"secret", "http://93.184.216.34/", "plain"},
		{"secret", "https://[2606:2800:220:1::1]/", "secure"},
		{"secret", "https://a.example/", "secure"},
		{"other", "http://93.184.216.34/", "error"},
	} {
		if found := got(one[0], one[1]); found != one[2] {
			t.Errorf("%v: %s", one, found)
		}
	}
}
