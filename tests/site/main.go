// The demo site: a few handsome static pages for screenshots inside a cluster that has no way out.
//
// In: nothing but its own embedded pages. Out: HTTP on -listen (default :8080); with -proxy-user forward proxies that lead
// everybody to it; with -certificate both over TLS as well. Must not: call anything but itself, read anything of the node, or take input from a request beyond its
// path. The pages use no outside asset; /metadata alone tries to reach an address that must be refused, and shows what
// happened.
package main

import (
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"flag"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

//go:embed pages
var embedded embed.FS

// pages maps a path to the file that answers it. Anything else is a 404: a screenshot of a missing page has to be
// possible too.
var pages = map[string]string{
	"/":            "index.html",
	"/scripts":     "scripts.html",
	"/long":        "long.html",
	"/metadata":    "metadata.html",
	"/style.css":   "style.css",
	"/favicon.ico": "mark.svg",
}

func handler(files fs.FS) http.Handler {
	mux := http.NewServeMux()
	for path, name := range pages {
		pattern := "GET " + path
		if path == "/" {
			pattern = "GET /{$}"
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
			if name == "mark.svg" {
				w.Header().Set("Content-Type", "image/svg+xml")
			}
			http.ServeFileFS(w, r, files, name)
		})
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	return mux
}

// local is the address under which this process itself reaches what it serves.
func local(listen string) string {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		log.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// bounded is a server that waits for nobody for long.
func bounded(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
}

func must(listener net.Listener, err error) net.Listener {
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

// proxies leads whoever has user and password to the sites.
func proxies(sites sites, user string, identity *tls.Config) {
	password := os.Getenv("PROXY_PASSWORD")
	handler := connect(sites, user, password)
	// A tunnel has deadlines of its own.
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	go func() { log.Fatal(server.Serve(must(net.Listen("tcp", ":3128")))) }()
	if identity != nil {
		go func() { log.Fatal(server.Serve(must(tls.Listen("tcp", ":3129", identity)))) }()
	}
	socks := must(net.Listen("tcp", ":1080"))
	go func() { log.Fatal(serveSocks(socks, sites, user, password)) }()
}

func main() {
	listen := flag.String("listen", ":8080", "address to serve on")
	user := flag.String("proxy-user", "", "forward proxies (HTTP on 3128, over TLS on 3129, SOCKS5 on 1080) lead this user to the "+
		"site; the password is in PROXY_PASSWORD; none if empty")
	certificate := flag.String("certificate", "", "directory with tls.crt and tls.key: the site is on port 8443 as well")
	flag.Parse()
	files, err := fs.Sub(embedded, "pages")
	if err != nil {
		log.Fatal(err)
	}
	server := bounded(handler(files))
	sites := sites{plain: local(*listen)}
	var identity *tls.Config
	if *certificate != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(*certificate, "tls.crt"), filepath.Join(*certificate, "tls.key"))
		if err != nil {
			log.Fatal(err)
		}
		identity = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		sites.secure = "127.0.0.1:8443"
		secure := must(tls.Listen("tcp", ":8443", identity))
		go func() { log.Print(server.Serve(secure)) }()
	}
	if *user != "" {
		proxies(sites, *user, identity)
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	go func() {
		<-stop.Done()
		deadline, done := context.WithTimeout(context.Background(), 3*time.Second)
		defer done()
		_ = server.Shutdown(deadline)
	}()
	log.Printf("demo site on %s", *listen)
	if err := server.Serve(must(net.Listen("tcp", *listen))); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
