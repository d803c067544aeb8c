// The demo site: a few handsome static pages for screenshots inside a cluster that has no way out.
//
// In: nothing but its own embedded pages. Out: HTTP on -listen (default :8080). Must not: call anything, read anything
// of the node, or take input from a request beyond its path. The pages use no outside asset; /metadata alone tries to
// reach an address that must be refused, and shows what happened.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"io/fs"
	"log"
	"net/http"
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

func main() {
	listen := flag.String("listen", ":8080", "address to serve on")
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
	log.Printf("demo site on %s", *listen)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
