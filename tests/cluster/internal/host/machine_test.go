package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

// tree makes files with these contents below a new directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func content(t *testing.T, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The kubelet's own list is cpu, cpuset, memory, hugetlb and pids; it misses whichever the machine has and its root has not.
func TestInCgroup2TheKubeletsControllersAreEnabledWhereTheMachineHasThem(t *testing.T) {
	for has, want := range map[string]string{
		"cpuset cpu io memory hugetlb pids rdma misc\n": "+cpu +cpuset +memory +hugetlb +pids",
		"cpuset cpu io memory pids\n":                   "+cpu +cpuset +memory +pids",
		"cpu memory\n":                                  "+cpu +memory",
	} {
		root := tree(t, map[string]string{"cgroup.controllers": has, "cgroup.subtree_control": "", "cgroup.procs": "", "system.slice/cgroup.procs": ""})
		if err := makeCgroups(root, layout.Cluster{Name: "x"}); err != nil {
			t.Fatal(err)
		}
		if got := content(t, root, "cgroup.subtree_control"); got != want {
			t.Errorf("%q: enabled %q, want %q", has, got, want)
		}
		if _, err := os.Stat(filepath.Join(root, "sscluster-x")); err != nil {
			t.Error(err)
		}
		if l, _ := filepath.Glob(root + "/*/sscluster-x"); len(l) > 0 {
			t.Errorf("v2 has one hierarchy, but: %v", l)
		}
	}
}

func TestInCgroup1EveryHierarchyHasARootOfOursAndItsCpusetIsNotEmpty(t *testing.T) {
	root := tree(t, map[string]string{
		"memory/cgroup.procs": "", "hugetlb/cgroup.procs": "",
		"cpuset/cgroup.procs": "", "cpuset/cpuset.cpus": "0-1\n", "cpuset/cpuset.mems": "0\n",
	})
	for range 2 { // what is there already is no error
		if err := makeCgroups(root, layout.Cluster{Name: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range []string{"memory", "hugetlb", "cpuset"} {
		if _, err := os.Stat(filepath.Join(root, h, "sscluster-x")); err != nil {
			t.Error(err)
		}
	}
	for f, want := range map[string]string{"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n"} {
		if got := content(t, root, "cpuset/sscluster-x", f); got != want {
			t.Errorf("%s: %q", f, got)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "cgroup.subtree_control")); err == nil {
		t.Error("a file of v2 was written")
	}
}

func TestTheBridgesFilterIsLoadedWhereItIsMissingAndTheHostsBridgesStayAsTheyWere(t *testing.T) {
	const settings = "sys/net/bridge/bridge-nf-call-"
	loaded := ""
	proc := tree(t, nil)
	load := func(module string) error {
		loaded += module
		if err := os.MkdirAll(filepath.Join(proc, "sys/net/bridge"), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(proc, settings+"iptables"), []byte("1\n"), 0o644) // as the kernel begins
	}
	for range 2 {
		if err := loadBridgeFilter(proc, load); err != nil {
			t.Fatal(err)
		}
	}
	if loaded != "br_netfilter" {
		t.Errorf("loaded %q, want it once", loaded)
	}
	for _, s := range []string{"iptables", "ip6tables", "arptables"} {
		if got := content(t, proc, settings+s); got != "0" {
			t.Errorf("%s is %q", s, got)
		}
	}
	has := tree(t, map[string]string{settings + "iptables": "1\n"})
	if err := loadBridgeFilter(has, func(string) error { return errors.New("not needed") }); err != nil {
		t.Error(err)
	}
	if got := content(t, has, settings+"iptables"); got != "1\n" {
		t.Errorf("what was there has been changed to %q", got)
	}
}

func TestAKernelWithoutTheBridgesFilterIsToldByItsName(t *testing.T) {
	for what, load := range map[string]func(string) error{
		"no such module":       func(string) error { return errors.New("modprobe: FATAL") },
		"loaded to no purpose": func(string) error { return nil },
	} {
		err := loadBridgeFilter(t.TempDir(), load)
		if err == nil || !strings.Contains(err.Error(), "module br_netfilter") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := modprobe("no-such-module-of-ours"); err == nil || !strings.Contains(err.Error(), "no-such-module-of-ours") {
		t.Error(err)
	}
}
