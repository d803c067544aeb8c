package node

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

// covered are directories with fixed paths that components write to whatever their flags say: containerd's
// shims and `ip netns` under /run, CNI's result cache and the kubelet's root under /var/lib, the links to
// container logs under /var/log. Each gets a file system of its own, so nothing lands on the host.
var covered = []string{"/run", "/var/lib", "/var/log"}

func setUpMounts(spec layout.Spec) error {
	c := spec.Cluster()
	// Slave first: nothing mounted from here on reaches the host. Then shared: the kubelet wants that.
	if err := mount("", "/", "", syscall.MS_SLAVE|syscall.MS_REC); err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC); err != nil {
		return err
	}
	// Before the covers: the cache may lie below one of them.
	if !spec.ControlPlaneOnly {
		if err := bind(spec.Bin(), c.In("bin")); err != nil {
			return err
		}
	}
	for _, d := range covered {
		if err := mount("tmpfs", d, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV); err != nil {
			return err
		}
	}
	for _, d := range []string{"/var/lib/cni", "/var/log/containers"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	// On disk, not on tmpfs: emptyDir volumes live there.
	if err := bind(c.In("kubelet"), layout.KubeletRoot); err != nil {
		return err
	}
	return mount("", "/", "", syscall.MS_SHARED|syscall.MS_REC)
}

func bind(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	return mount(real, to, "", syscall.MS_BIND)
}

func mount(source, target, kind string, flags uintptr) error {
	if err := syscall.Mount(source, target, kind, flags, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind+source, target, err)
	}
	return nil
}
