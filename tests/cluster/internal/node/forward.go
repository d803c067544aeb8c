package node

import (
	"io"
	"log"
	"net"
	"os"
	"time"
)

// forward carries connections from the host's loopback to the API server in here. The listening socket
// was made on the host and stays in the host's network namespace; what this process dials is in its own.
func forward(fd uintptr, target string) {
	f := os.NewFile(fd, "host listener")
	l, err := net.FileListener(f)
	if err != nil {
		log.Printf("host listener: %v", err)
		return
	}
	f.Close()
	for {
		from, err := l.Accept()
		if err != nil {
			log.Printf("host listener: %v", err)
			time.Sleep(100 * time.Millisecond) // out of files, most likely
			continue
		}
		go func() {
			to, err := net.DialTimeout("tcp", target, 3*time.Second)
			if err != nil {
				from.Close() // the API server is not there (yet)
				return
			}
			join(from.(*net.TCPConn), to.(*net.TCPConn))
		}()
	}
}

// join copies both ways and passes on the end of each direction on its own (kubectl exec needs that).
func join(a, b *net.TCPConn) {
	defer a.Close()
	defer b.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyThenClose(b, a)
	}()
	copyThenClose(a, b)
	<-done
}

func copyThenClose(to, from *net.TCPConn) {
	_, _ = io.Copy(to, from) // an error ends the connection like its end does
	_ = to.CloseWrite()
}
