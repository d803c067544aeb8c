package node

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

// arrived counts what came to any stand-in, by "FROM tcp|udp STAND-IN": a test asks whether its own pod was there.
var arrived = struct {
	sync.Mutex
	by map[string]int
}{by: map[string]int{}}

func count(from net.Addr, network, at string) {
	host, _, _ := net.SplitHostPort(from.String())
	arrived.Lock()
	defer arrived.Unlock()
	arrived.by[host+" "+network+" "+at]++
}

// heard counts the connections of a listener.
type heard struct {
	net.Listener
	at string
}

func (h heard) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	if err == nil {
		count(c.RemoteAddr(), "tcp", h.at)
	}
	return c, err
}

func answer(l heard) {
	s := http.Server{ReadHeaderTimeout: 5 * time.Second}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		global := strings.HasPrefix(l.at, layout.GlobalIP+":")
		switch {
		case global && r.URL.Path == "/say":
			say(w, r)
		case global && r.URL.Path == "/arrived":
			tell(w)
		default:
			fmt.Fprintf(w, "reached %s\n", l.at)
		}
	})
	log.Printf("stand-in %s: %v", l.at, s.Serve(l))
}

// say is the site on the internet: it answers what the address asks for. ?status=, ?wait= in milliseconds, ?body= (HTML);
// any other parameter is a header.
func say(w http.ResponseWriter, r *http.Request) {
	status, body := http.StatusOK, ""
	w.Header().Set("Content-Type", "text/html")
	for name, values := range r.URL.Query() {
		number, _ := strconv.Atoi(values[0])
		switch name {
		case "status":
			status = number
		case "wait":
			time.Sleep(time.Duration(number) * time.Millisecond)
		case "body":
			body = values[0]
		default:
			w.Header().Set(name, values[0])
		}
	}
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

// tell writes a line for each that came: "FROM tcp|udp STAND-IN COUNT".
func tell(w http.ResponseWriter) {
	arrived.Lock()
	defer arrived.Unlock()
	for who, times := range arrived.by {
		fmt.Fprintln(w, who, times)
	}
}

func answerDatagrams(c net.PacketConn) {
	buf := make([]byte, 64)
	for {
		_, from, err := c.ReadFrom(buf)
		if err != nil {
			log.Printf("stand-in %s/udp: %v", c.LocalAddr(), err)
			return
		}
		count(from, "udp", c.LocalAddr().String())
		_, _ = c.WriteTo([]byte("reached\n"), from)
	}
}
