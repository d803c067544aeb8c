package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

const cgroupRoot = "/sys/fs/cgroup"

// controllers are those of cgroup v2 that the kubelet uses. It does not start below a root of its own that lacks one of
// them while the machine's has it (getSupportedUnifiedControllers in its package cm).
var controllers = []string{"cpu", "cpuset", "memory", "hugetlb", "pids"}

// sysctls are the host-wide settings that the kubelet overwrites.
var sysctls = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// saveSysctls notes the settings unless an earlier cluster, still there, did so before it changed them.
func saveSysctls() error {
	if _, err := os.Stat(layout.SysctlFile()); err == nil {
		return nil
	}
	before := map[string]string{}
	for _, k := range sysctls {
		b, err := os.ReadFile("/proc/sys/" + k)
		if err != nil {
			return err
		}
		before[k] = strings.TrimSpace(string(b))
	}
	return layout.WriteJSON(layout.SysctlFile(), before)
}

// restoreSysctls puts the settings back once no cluster is left.
func restoreSysctls() error {
	before, err := readSysctls()
	if err != nil || before == nil {
		return err
	}
	var errs []error
	for k, v := range before {
		if !slices.Contains(sysctls, k) {
			continue
		}
		errs = append(errs, os.WriteFile("/proc/sys/"+k, []byte(v), 0))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.Remove(layout.SysctlFile())
}

// cgroupHierarchies lists the mounted roots: one for each controller in v1, the one root in v2.
func cgroupHierarchies(root string) []string {
	if isCgroup2(root) {
		return []string{root}
	}
	l, _ := filepath.Glob(root + "/*/cgroup.procs") // the pattern is right
	for i := range l {
		l[i] = filepath.Dir(l[i])
	}
	return l
}

func isCgroup2(root string) bool {
	_, err := os.Stat(filepath.Join(root, "cgroup.controllers"))
	return err == nil
}

// makeCgroups makes the cluster's own root in each hierarchy.
func makeCgroups(root string, c layout.Cluster) error {
	for _, h := range cgroupHierarchies(root) {
		own := filepath.Join(h, c.Cgroup())
		if err := os.Mkdir(own, 0o755); err != nil && !os.IsExist(err) {
			return err
		}
		// a new v1 cpuset is empty and takes no process
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
			v, err := os.ReadFile(filepath.Join(h, f))
			if err != nil || len(strings.TrimSpace(string(v))) == 0 {
				continue
			}
			if err := os.WriteFile(filepath.Join(own, f), v, 0o644); err != nil {
				return err
			}
		}
	}
	if !isCgroup2(root) {
		return nil
	}
	if err := enableControllers(root); err != nil {
		return fmt.Errorf("cgroup v2 controllers: %w", err)
	}
	return nil
}

// enableControllers gives the cgroups below the root of v2 those controllers that the kubelet wants and the machine has.
// They go in one write, which the kernel refuses as a whole for one that it does not have.
func enableControllers(root string) error {
	has, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return err
	}
	var on []string
	for _, c := range controllers {
		if slices.Contains(strings.Fields(string(has)), c) {
			on = append(on, "+"+c)
		}
	}
	return os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte(strings.Join(on, " ")), 0o644)
}

// removeCgroups removes the cluster's cgroups, leaves first. They stay busy for some 100 ms after their
// last process, so it tries again.
func removeCgroups(c layout.Cluster) error {
	var left []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		left = nil
		for _, h := range cgroupHierarchies(cgroupRoot) {
			own := filepath.Join(h, c.Cgroup())
			removeTree(own)
			if _, err := os.Stat(own); err == nil {
				left = append(left, own)
			}
		}
		if len(left) == 0 {
			return nil
		}
	}
	return fmt.Errorf("cgroups still busy: %s", strings.Join(left, ", "))
}

// removeTree removes the directories below a cgroup; its files cannot be removed and go with it.
func removeTree(root string) {
	var dirs []string
	_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil // what vanished meanwhile is fine
	})
	for _, d := range slices.Backward(dirs) {
		_ = os.Remove(d) // busy ones are tried again
	}
}

// mountsBelow lists what is mounted on the host at or below a directory: after a `down` nothing.
func mountsBelow(dir string) ([]string, error) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && (f[1] == dir || strings.HasPrefix(f[1], dir+"/")) {
			out = append(out, f[1])
		}
	}
	return out, nil
}

// others lists the state directories of other clusters.
func others(name string) []string {
	entries, err := os.ReadDir(layout.Base)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && e.Name() != name {
			out = append(out, e.Name())
		}
	}
	return out
}

func readSysctls() (map[string]string, error) {
	b, err := os.ReadFile(layout.SysctlFile())
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	before := map[string]string{}
	if err := json.Unmarshal(b, &before); err != nil {
		return nil, fmt.Errorf("%s: %w", layout.SysctlFile(), err)
	}
	return before, nil
}
