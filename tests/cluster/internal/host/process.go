// Package host is the outside of a cluster: what up, down, status, load and logs do on the machine.
// In: the options of a command. Out: a running cluster, or none, and lines that say so.
// It must not kill or remove anything that is not provably the cluster's own, and it must leave
// nothing behind after `down` or the time limit: no process, mount, namespace, cgroup or changed sysctl. (A module of the
// kernel that it had loaded stays, and so do controllers that it enabled at the root of cgroup v2.)
package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"screenshot-operator.io/tests/cluster/internal/layout"
	"screenshot-operator.io/tests/cluster/internal/node"
)

const goneWithin = 20 * time.Second

// findPID1 looks for the cluster's pid 1 among all processes. It needs no pid file, so an `up` that was
// killed at any moment leaves nothing that `down` cannot find, and no number can be stale.
func findPID1(name string) (int, error) { return find(isPID1, name) }

// identity says whether a process is a certain one of the cluster of this name.
type identity func(pid int, name string) bool

func find(is identity, name string) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && is(pid, name) {
			return pid, nil
		}
	}
	return 0, nil
}

// calledAs checks the command line: `<program> <command> <name>`.
func calledAs(pid int, command, name string) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	args := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
	return len(args) == 3 && args[1] == command && args[2] == name
}

// isPID1 checks the command line and that the process is pid 1 of a namespace.
func isPID1(pid int, name string) bool {
	if !calledAs(pid, node.Command, name) {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(ids)
			return len(f) >= 2 && f[len(f)-1] == "1"
		}
	}
	return false
}

// killPID1 ends pid 1 and with it, by the kernel, everything in its pid namespace.
func killPID1(name string) error { return kill(isPID1, name) }

// kill ends a process and waits until it is gone. The file descriptor stands for one process for ever: it is opened before
// the last check, so the signal cannot reach another one, and for a pid 1 it reports the end only when every process of the
// namespace is gone. (The command line is no measure for that: it is empty as soon as pid 1 begins to end, while
// others still write files.)
func kill(is identity, name string) error {
	pid, err := find(is, name)
	if err != nil || pid == 0 {
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if !is(pid, name) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill %d: %w", pid, err)
	}
	for end := time.Now().Add(goneWithin); time.Now().Before(end); {
		gone, err := ended(fd, 500)
		if err != nil {
			return fmt.Errorf("wait for %d: %w", pid, err)
		}
		if gone {
			return nil
		}
	}
	return fmt.Errorf("process %d is still there %v after SIGKILL", pid, goneWithin)
}

// ended waits some milliseconds, or with -1 for ever, for the end of a process; a signal can make it return earlier.
func ended(pidfd, ms int) (bool, error) {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, ms)
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return n > 0, err
}

// members gives the host's pids of pid 1 and everything below it. Pods have pid namespaces of their own,
// but no process can leave the tree: orphans go to pid 1.
func members(pid1 int) []int {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // ended meanwhile
		}
		// the name, in brackets, can contain anything; the state and the parent follow it
		_, rest, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
		pid, e1 := strconv.Atoi(strings.Split(f, "/")[2])
		fields := strings.Fields(rest)
		if e1 != nil || len(fields) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	out := []int{pid1}
	for i := 0; i < len(out); i++ {
		out = append(out, children[out[i]]...)
	}
	return out
}

// memory sums the proportional set sizes, in bytes: shared pages count once.
func memory(pids []int) int64 {
	var sum int64
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue // ended meanwhile
		}
		for line := range bytes.Lines(b) {
			if rest, ok := bytes.CutPrefix(line, []byte("Pss:")); ok {
				kb, _ := strconv.ParseInt(strings.Fields(string(rest))[0], 10, 64)
				sum += kb << 10
				break
			}
		}
	}
	return sum
}

// lock makes sure that one up or down works at a time on this machine.
func lock(out func(string, ...any)) (unlock func(), err error) {
	f, err := openLock()
	if err != nil {
		return nil, err
	}
	const patience = 5 * time.Minute
	for end, told := time.Now().Add(patience), false; ; time.Sleep(200 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			if told {
				out("the other one has finished")
			}
			return func() { f.Close() }, nil
		}
		if time.Now().After(end) {
			f.Close()
			return nil, fmt.Errorf("another `cluster up` or `down` has been at work for %v", patience)
		}
		if !told {
			out("waiting for another `cluster up` or `down` to finish")
			told = true
		}
	}
}

func openLock() (*os.File, error) {
	if err := ownDir(layout.Base); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(layout.Base, "lock"), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
}

// ownDir makes a directory and refuses one that is not root's: anyone can write to /var/tmp.
func ownDir(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil && !os.IsExist(err) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s is not a directory that only this user can write to; remove it", path)
	}
	return nil
}
