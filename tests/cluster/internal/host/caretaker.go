package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

// CaretakerCommand is the argument that makes this program the caretaker of a cluster, whose name follows it.
const CaretakerCommand = "caretaker"

// pid1FD is where a caretaker finds pid 1, as a pidfd.
const pid1FD = 3

// startCaretaker leaves a process on the host that tidies up once pid 1 has ended by itself; who is in namespaces cannot.
// An `up` that is killed before this leaves a cluster without one: the next `up` or `down` removes that.
func startCaretaker(c layout.Cluster, pid1 int) error {
	fd, err := unix.PidfdOpen(pid1, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "pid 1")
	defer f.Close()
	out, err := os.Create(c.Log(CaretakerCommand))
	if err != nil {
		return err
	}
	defer out.Close()
	p := exec.Command("/proc/self/exe", CaretakerCommand, c.Name)
	p.Args[0] = "cluster"
	p.Dir, p.Stdout, p.Stderr, p.ExtraFiles = "/", out, out, []*os.File{f}
	p.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return p.Start()
}

// Caretake waits for the end of pid 1 and then does what `down` would. Whoever else removes the cluster meanwhile has the
// lock and ends the caretaker too, so what it finds under the lock is what its own cluster left. After a crash the
// logs stay, as they do after a failed `up`.
func Caretake(name string) error {
	if !holdsPidfd(os.Getpid()) {
		return errors.New("this command is started by `cluster up`, with a file descriptor of pid 1")
	}
	for gone := false; !gone; {
		var err error
		if gone, err = ended(pid1FD, -1); err != nil {
			return fmt.Errorf("wait for pid 1: %w", err)
		}
	}
	at := time.Now()
	f, err := openLock()
	if err != nil {
		return err
	}
	defer f.Close()
	for { // however long others take
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock: %w", err)
		}
	}
	// Its own is gone: any other is that of a new cluster, made by somebody who knows no caretakers.
	if pid, err := findPID1(name); err != nil || pid != 0 {
		return err
	}
	c := layout.Cluster{Name: name}
	if spec, err := layout.ReadSpec(c); err == nil && !at.Before(spec.Ends()) {
		return remove(c)
	}
	return stop(c)
}

// endCaretaker ends the caretaker. It is at work only under the lock, which is held here, so it is interrupted in nothing.
func endCaretaker(name string) error { return kill(isCaretaker, name) }

// isCaretaker checks the command line and that the process has the descriptor it was started with. A caretaker is none for
// itself.
func isCaretaker(pid int, name string) bool {
	return pid != os.Getpid() && calledAs(pid, CaretakerCommand, name) && holdsPidfd(pid)
}

// holdsPidfd: of all descriptors only those of processes have a pid to tell.
func holdsPidfd(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, pid1FD))
	return err == nil && strings.Contains("\n"+string(b), "\nPid:")
}
