// The demo site: a few handsome static pages for screenshots inside a cluster that has no way out.
//
// In: nothing but its own embedded pages. Out: HTTP on -listen (default :8080); with -proxy a forward proxy that leads
// everybody to it. Must not: call anything but itself, read anything of the node, or take input from a request beyond its
// path. The pages use no outside asset; /metadata alone tries to reach an address that must be refused, and shows what
// happened.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
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

func main() {
	listen := flag.String("listen", ":8080", "address to serve on")
	proxy := flag.String("proxy", "", "address on which a forward proxy leads everybody to this site; none if empty")
	user := flag.String("proxy-user", "", "who may use the proxy; the password is in PROXY_PASSWORD")
	flag.Parse()
	files, err := fs.Sub(embedded, "pages")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Addr:              *listen,
		Handler:           handler(files),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	go func() {
		<-stop.Done()
		deadline, done := context.WithTimeout(context.Background(), 3*time.Second)
		defer done()
		_ = server.Shutdown(deadline)
	}()
	if *proxy != "" {
		upstream := &http.Server{
			Addr:              *proxy,
			Handler:           connect(local(*listen), *user, os.Getenv("PROXY_PASSWORD")),
			ReadHeaderTimeout: 5 * time.Second,
			MaxHeaderBytes:    16 << 10,
		}
		go func() { log.Fatal(upstream.ListenAndServe()) }()
	}
	log.Printf("demo site on %s", *listen)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
