// Command testapp is the only program of the test cluster's own image: a small server and a few probes.
// In: a verb and addresses. Out: lines on stdout, and an exit status that says whether all went as expected.
// It must not need anything from its image: it is static and runs FROM scratch as any user.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	dialTimeout = time.Second
	openWithin  = 15 * time.Second // until a pod's rules and the target are there
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("FAIL:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	verb := "serve"
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	need := map[string]int{"get": 1, "resolve": 1, "check": 1, "dial": 1, "sleep": 1}[verb]
	if len(args) < need {
		return fmt.Errorf("%s: an argument is missing", verb)
	}
	switch verb {
	case "serve": // [address]
		return serve(append(args, ":8080")[0])
	case "get": // URL
		return get(args[0])
	case "dial": // address...: prints which ones open
		for _, a := range args {
			fmt.Println(word(opens(a)), a)
		}
		return nil
	case "check": // +address (must open) or -address (must not open), in this order
		return check(args)
	case "resolve": // name [address that it must have]
		return resolve(args[0], args[1:])
	case "sleep": // seconds
		n, err := strconv.Atoi(args[0])
		time.Sleep(time.Duration(n) * time.Second)
		return err
	}
	return fmt.Errorf("unknown verb %q: serve, get, dial, check, resolve, sleep", verb)
}

func serve(addr string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	s := http.Server{Addr: addr, ReadHeaderTimeout: 5 * time.Second}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from %s, you are %s\n", host, r.RemoteAddr)
	})
	return s.ListenAndServe()
}

func get(url string) error {
	c := http.Client{Timeout: 3 * time.Second}
	r, err := c.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	fmt.Print(r.StatusCode, " ")
	_, err = io.Copy(os.Stdout, io.LimitReader(r.Body, 1<<20))
	return err
}

// check waits for what must open; only then is "does not open" a finding about the rules.
func check(args []string) error {
	for _, a := range args {
		address, want := a[1:], a[0] == '+'
		open := opens(address)
		for end := time.Now().Add(openWithin); want && !open && time.Now().Before(end); {
			time.Sleep(100 * time.Millisecond)
			open = opens(address)
		}
		fmt.Println(word(open), address)
		if open != want {
			return fmt.Errorf("%s is %s", address, word(open))
		}
	}
	return nil
}

// resolve asks until there is an answer: the way to the name server may be a moment younger than this pod.
func resolve(name string, want []string) error {
	for end := time.Now().Add(openWithin); ; time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
		l, err := net.DefaultResolver.LookupHost(ctx, name)
		cancel()
		if err != nil && time.Now().Before(end) {
			continue
		}
		fmt.Println(strings.Join(l, " "))
		if err == nil && len(want) > 0 && !slices.Contains(l, want[0]) {
			err = fmt.Errorf("%s is not %s", name, want[0])
		}
		return err
	}
}

// opens tells whether a connection opens or, to udp/host:port, a datagram is answered.
func opens(address string) bool {
	network := "tcp"
	if to, ok := strings.CutPrefix(address, "udp/"); ok {
		network, address = "udp", to
	}
	c, err := net.DialTimeout(network, address, dialTimeout)
	if err != nil {
		return false
	}
	defer c.Close()
	if network == "tcp" {
		return true
	}
	_ = c.SetDeadline(time.Now().Add(dialTimeout))
	if _, err := c.Write([]byte("?")); err != nil {
		return false
	}
	_, err = c.Read(make([]byte, 64))
	return err == nil
}

func word(open bool) string {
	if open {
		return "open"
	}
	return "blocked"
}
