package main

import (
	"crypto/subtle"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// sites is where everybody is led, whatever destination was asked for.
type sites struct {
	plain  string
	secure string // for port 443; none if empty
}

func (s sites) dial(destination string) (net.Conn, error) {
	site := s.plain
	if _, port, err := net.SplitHostPort(destination); err == nil && port == "443" && s.secure != "" {
		site = s.secure
	}
	return net.DialTimeout("tcp", site, 5*time.Second)
}

// connect is a forward proxy that stands in for a company's own in a cluster without a way out: whoever gives user and password
// is led to the site itself. It logs the destinations and nothing else.
func connect(sites sites, user, password string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
			return
		}
		// What net/http reads from Authorization stands in Proxy-Authorization here.
		r.Header.Set("Authorization", r.Header.Get("Proxy-Authorization"))
		name, word, _ := r.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(name+":"+word), []byte(user+":"+password)) != 1 {
			log.Printf("refused %s", r.Host)
			w.Header().Set("Proxy-Authenticate", `Basic realm="demo"`)
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		to, err := sites.dial(r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer to.Close()
		hijacker, ok := w.(http.Hijacker)
		if !ok {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		from, _, err := hijacker.Hijack()
		if err != nil {
			return
		}
		defer from.Close()
		word = "connect"
		if r.TLS != nil {
			word = "connect over TLS"
		}
		log.Printf("%s %s", word, r.Host)
		_ = from.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(from, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
			return
		}
		join(from, to)
	})
}

// join copies both ways until one of them ends.
func join(from, to net.Conn) {
	done := make(chan struct{}, 2)
	copied := func(dst, src net.Conn) {
		_, _ = io.Copy(dst, src)
		done <- struct{}{}
	}
	go copied(to, from)
	go copied(from, to)
	<-done
}
