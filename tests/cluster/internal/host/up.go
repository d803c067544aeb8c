package host

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"screenshot-operator.io/tests/cluster/internal/config"
	"screenshot-operator.io/tests/cluster/internal/layout"
	"screenshot-operator.io/tests/cluster/internal/node"
	"screenshot-operator.io/tests/cluster/internal/pki"
	"screenshot-operator.io/tests/cluster/internal/tools"
)

var errNotRoot = errors.New("root is needed for namespaces and cgroups")

const (
	apiWithin   = 90 * time.Second
	nodeWithin  = 90 * time.Second
	dnsWithin   = 90 * time.Second
	againWithin = 30 * time.Second // for each thing that a running cluster should have anyway
	// What is aimed at on two cores, with the programs built, from when no other `up` or `down` was waited for. They are said
	// beside the times; selftest.sh fails beyond three times as much.
	controlPlaneGoal = 15 * time.Second
	nodeGoal         = 15 * time.Second
	dnsGoal          = 20 * time.Second
)

// Up brings a cluster up and returns when it works. A running cluster of the same kind is left alone, but
// for its time limit, which begins again, and is an error if it does not work; the remains of one that ended are removed
// first. After a failure nothing of a new cluster runs; the logs stay until the next `up` or `down`.
func Up(ctx context.Context, spec layout.Spec, b tools.Builder, say func(string, ...any)) error {
	if os.Geteuid() != 0 {
		return errNotRoot
	}
	if err := needPrograms("ip", "nft"); err != nil {
		return err
	}
	if !spec.ControlPlaneOnly && !b.Ready() {
		if err := b.Build(ctx, false); err != nil {
			return err
		}
	}
	unlock, err := lock(say)
	if err != nil {
		return err
	}
	defer unlock()
	spec.Started = time.Now() // Who waited for another command loses no time of the limit.
	c := spec.Cluster()
	if running, err := alreadyUp(ctx, spec, say); running || err != nil {
		return err
	}
	if err := remove(c); err != nil {
		return fmt.Errorf("remains of an earlier cluster: %w", err)
	}
	if err := start(ctx, spec, say); err != nil {
		return errors.Join(err, stop(c))
	}
	if err := layout.WriteJSON(c.Complete(), time.Now()); err != nil {
		return errors.Join(err, stop(c))
	}
	say("up: export KUBECONFIG=%s", c.Kubeconfig())
	return nil
}

func needPrograms(names ...string) error {
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			return fmt.Errorf("%w; install packages nftables and iproute2", err)
		}
	}
	return nil
}

func alreadyUp(ctx context.Context, spec layout.Spec, say func(string, ...any)) (bool, error) {
	pid, err := findPID1(spec.Name)
	if err != nil || pid == 0 {
		return false, err
	}
	if _, err := os.Stat(spec.Cluster().Complete()); os.IsNotExist(err) {
		return false, nil // what an interrupted `up` left is not to be trusted
	}
	have, err := layout.ReadSpec(spec.Cluster())
	if err != nil || !have.SameAs(spec) {
		return true, fmt.Errorf("cluster %q is up with other options; `down` comes first", spec.Name)
	}
	w, err := newWaiter(spec.Cluster())
	if err != nil {
		return true, err
	}
	if err := w.worksStill(ctx, have.ControlPlaneOnly); err != nil {
		return true, fmt.Errorf("cluster %q is up but does not work; `tests/cluster/cluster.sh down --name %s`, then the same again, makes a new one: %w",
			spec.Name, spec.Name, err)
	}
	have = have.Renewed(spec.TimeLimit, time.Now())
	if err := layout.WriteJSON(spec.Cluster().In("spec.json"), have); err != nil {
		return true, fmt.Errorf("time limit: %w", err)
	}
	left := time.Until(have.Ends()).Round(time.Minute)
	say("already up, for another %v: export KUBECONFIG=%s", left, spec.Cluster().Kubeconfig())
	return true, nil
}

// worksStill asks the processes first: for some 40 s the API calls a node Ready whose kubelet is dead.
func (w waiter) worksStill(ctx context.Context, controlPlaneOnly bool) error {
	if err := w.alive(); err != nil {
		return err
	}
	if err := w.wait(ctx, "API server", "kube-apiserver", againWithin, w.apiReady); err != nil || controlPlaneOnly {
		return err
	}
	if err := w.wait(ctx, "node Ready", "kubelet", againWithin, w.nodeReady); err != nil {
		return err
	}
	return w.wait(ctx, "CoreDNS Available", "kubelet", againWithin, w.coreDNSAvailable)
}

// start does one step after the other; every error says which one failed.
func start(ctx context.Context, spec layout.Spec, say func(string, ...any)) error {
	if err := prepare(spec); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if err := launch(spec); err != nil {
		return fmt.Errorf("start pid 1: %w", err)
	}
	say("keys and configuration written, components starting")
	w, err := newWaiter(spec.Cluster())
	if err != nil {
		return err
	}
	images := make(chan error, 1)
	go func() { images <- preload(ctx, spec) }() // containerd is there long before the API server
	if err := w.wait(ctx, "API server", "kube-apiserver", apiWithin, w.apiReady); err != nil {
		return err
	}
	say("API server ready")
	if spec.ControlPlaneOnly {
		if err := w.wait(ctx, "controllers", "kube-controller-manager", apiWithin, w.controllersReady); err != nil {
			return err
		}
		say("control plane ready (goal: %v)", controlPlaneGoal)
		return nil
	}
	return startNode(ctx, w, spec, images, say)
}

func startNode(ctx context.Context, w waiter, spec layout.Spec, images <-chan error, say func(string, ...any)) error {
	c := spec.Cluster()
	apply := exec.CommandContext(ctx, "/proc/self/exe", "kubectl", "--kubeconfig="+c.Kubeconfig(), "apply", "--server-side", "-f", c.In("manifests"))
	if out, err := apply.CombinedOutput(); err != nil {
		return fmt.Errorf("manifests: %w: %s", err, out)
	}
	if err := <-images; err != nil {
		return fmt.Errorf("images: %w; see %s", err, c.Log("containerd"))
	}
	say("images and manifests in")
	if err := w.wait(ctx, "node Ready", "kubelet", nodeWithin, w.nodeReady); err != nil {
		return err
	}
	say("node Ready (goal: %v)", nodeGoal)
	if err := w.wait(ctx, "CoreDNS Available", "kubelet", dnsWithin, w.coreDNSAvailable); err != nil {
		return err
	}
	say("CoreDNS Available")
	if err := w.wait(ctx, "metrics API", "metrics-server", apiWithin, w.metricsServed); err != nil {
		return err
	}
	say("metrics API served")
	if err := w.checkPods(ctx, spec.NetworkPolicy); err != nil {
		return err
	}
	if spec.NetworkPolicy {
		say("checked with real pods: DNS answers (goal: %v), network policies and Pod Security act", dnsGoal)
	} else {
		say("checked with real pods: DNS answers (goal: %v), network policies are accepted and ignored, Pod Security acts", dnsGoal)
	}
	return nil
}

func prepare(spec layout.Spec) error {
	c := spec.Cluster()
	if err := ownDir(c.Dir()); err != nil {
		return err
	}
	for d, mode := range map[string]os.FileMode{"etcd": 0o700, "kubelet/seccomp": 0o755, "logs/pods": 0o755} {
		if err := os.MkdirAll(c.In(d), mode); err != nil {
			return err
		}
	}
	if err := layout.WriteJSON(c.In("spec.json"), spec); err != nil {
		return err
	}
	if err := pki.Write(c.In("pki"), c.Kubeconfig(), spec.Port); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if err := config.Write(c); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := loadBridgeFilter("/proc", modprobe); err != nil {
		return err
	}
	if spec.ControlPlaneOnly {
		return nil // only a kubelet changes sysctls and makes cgroups
	}
	if err := saveSysctls(); err != nil {
		return fmt.Errorf("sysctls: %w", err)
	}
	if err := makeCgroups(cgroupRoot, c); err != nil {
		return fmt.Errorf("cgroups: %w", err)
	}
	return nil
}

// launch starts this program again as pid 1 of new namespaces, and as its caretaker. Pid 1 inherits the socket that
// listens here.
func launch(spec layout.Spec) error {
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", spec.Port))
	if err != nil {
		return fmt.Errorf("%w (another cluster? --port gives another port)", err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer socket.Close()
	out, err := os.Create(spec.Cluster().Log("pid1"))
	if err != nil {
		return err
	}
	defer out.Close()
	// Files that this process was given, a pipe to somebody who waits for its end, are not for processes that stay. Kernels
	// before 5.11 cannot do this, and it is no reason to fail.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	p := exec.Command("/proc/self/exe", node.Command, spec.Name)
	p.Args[0] = "cluster"
	p.Dir, p.Stdout, p.Stderr, p.ExtraFiles = "/", out, out, []*os.File{socket}
	p.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setsid:     true,
	}
	if err := p.Start(); err != nil {
		return err
	}
	if err := startCaretaker(spec.Cluster(), p.Process.Pid); err != nil {
		return fmt.Errorf("caretaker: %w", err)
	}
	return nil
}

// preload brings the cluster's own images in.
func preload(ctx context.Context, spec layout.Spec) error {
	if spec.ControlPlaneOnly {
		return nil
	}
	tars, err := filepath.Glob(filepath.Join(spec.Images(), "*.tar"))
	if err != nil {
		return err
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(pollEvery) {
		if _, err := ctr(ctx, spec, "version"); err == nil {
			break
		} else if time.Now().After(end) {
			return err
		}
	}
	for _, t := range tars {
		if _, err := ctr(ctx, spec, "-n", "k8s.io", "images", "import", t); err != nil {
			return err
		}
	}
	return nil
}
