package node

import (
	"errors"
	"log"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

// children starts processes and is the only one to wait for them: pid 1 gets every orphan of the
// namespace, and two waiters would take each other's results away.
type children struct {
	cluster layout.Cluster
	mu      sync.Mutex // held over a start, so that a child that ends at once is already known
	list    []layout.Component
}

func newChildren(c layout.Cluster) *children { return &children{cluster: c} }

// start runs this very program under another name (it contains all Kubernetes components), or another
// program when path is given. Output goes to the component's log.
func (c *children) start(name, path string, args ...string) error {
	out, err := os.OpenFile(c.cluster.Log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	argv0 := name
	if path == "" {
		path = "/proc/self/exe"
	} else {
		argv0 = path
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := os.StartProcess(path, append([]string{argv0}, args...), &os.ProcAttr{
		Dir: "/", Env: environment(c.cluster), Files: []*os.File{null, out, out},
	})
	if err != nil {
		return err
	}
	c.list = append(c.list, layout.Component{Name: name, PID: p.Pid, At: time.Now()})
	defer p.Release() // waited for by reap
	return c.write()
}

// environment has the cluster's own programs first: containerd looks for its shim on the PATH.
func environment(c layout.Cluster) []string {
	return []string{
		"PATH=" + c.In("bin") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/tmp", "TMPDIR=/tmp", "LANG=C.UTF-8",
	}
}

// reap waits for every process of the namespace, for as long as the namespace lives.
func (c *children) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.ECHILD): // nobody to wait for at the moment
			time.Sleep(50 * time.Millisecond)
		case err == nil:
			c.ended(pid, status)
		}
	}
}

// ended reports a component that ended; nothing restarts it, since tests want to see that.
func (c *children) ended(pid int, status syscall.WaitStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.list {
		if p := &c.list[i]; p.PID == pid && !p.Ended {
			p.Ended, p.At, p.Result = true, time.Now(), describe(status)
			log.Printf("%s ended: %s", p.Name, p.Result)
			if err := c.write(); err != nil {
				log.Print(err)
			}
		}
	}
}

func (c *children) write() error {
	return layout.WriteJSON(c.cluster.In("components.json"), c.list)
}

func describe(s syscall.WaitStatus) string {
	if s.Signaled() {
		return "signal: " + s.Signal().String()
	}
	return "exit status " + strconv.Itoa(s.ExitStatus())
}
