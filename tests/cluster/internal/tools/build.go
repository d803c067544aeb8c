// Package tools builds the third-party programs and packs the test images, once for all checkouts.
// In: the sources under tests/cluster and the cache directory. Out: <cache>/bin and <cache>/images.
// The cache directory's name is made from what goes in, so a file that is there is right and is left alone.
// It must not take programs from anywhere else: everything is built from Go modules.
package tools

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"screenshot-operator.io/tests/cluster/internal/pack"
)

// Versions that are not in a go.mod, or that a program must be told to know its own.
const (
	containerdVersion = "v2.4.2"
	runcVersion       = "1.5.2"
	helmVersion       = "v4.3.1"
)

// stillEvery is between two signs of life.
const stillEvery = 20 * time.Second

// Builder says from where to where.
type Builder struct {
	Source string // tests/cluster of a checkout
	Cache  string
	Out    io.Writer // progress
}

type step struct {
	name    string
	module  string // directory with the go.mod, relative to Source
	cgo     bool
	output  string // relative to <cache>/bin; of several programs: their directory
	tags    string
	ldflags string
	pkgs    []string
	makes   []string // relative to <cache>/bin
}

const (
	containerdModule = "github.com/containerd/containerd/v2"
	cniModule        = "github.com/containernetworking/plugins/plugins/"
)

var steps = []step{
	{name: "containerd", module: "third_party/cri", output: ".",
		tags:    "osusergo netgo static_build no_btrfs no_devmapper no_zfs no_aufs",
		ldflags: "-s -w -X " + containerdModule + "/version.Version=" + containerdVersion,
		pkgs:    []string{containerdModule + "/cmd/containerd", containerdModule + "/cmd/containerd-shim-runc-v2", containerdModule + "/cmd/ctr"},
		makes:   []string{"containerd", "containerd-shim-runc-v2", "ctr"}},
	// Without the seccomp tag runc builds silently without seccomp; check() looks at the result.
	{name: "runc", module: "third_party/cri", cgo: true, output: "runc",
		tags:    "seccomp netgo osusergo urfave_cli_no_docs",
		ldflags: "-s -w -extldflags -static -X main.version=" + runcVersion,
		pkgs:    []string{"github.com/opencontainers/runc"}, makes: []string{"runc"}},
	{name: "CNI plugins", module: "third_party/cri", output: "cni", ldflags: "-s -w",
		pkgs:  []string{cniModule + "main/bridge", cniModule + "main/loopback", cniModule + "ipam/host-local", cniModule + "meta/portmap"},
		makes: []string{"cni/bridge", "cni/loopback", "cni/host-local", "cni/portmap"}},
	{name: "CoreDNS", module: "third_party/coredns", output: "coredns", ldflags: "-s -w", pkgs: []string{"."}, makes: []string{"coredns"}},
	{name: "testapp", module: ".", output: "testapp", ldflags: "-s -w", pkgs: []string{"./testapp"}, makes: []string{"testapp"}},
}

// Build makes what is missing. Several checkouts may call it at once: one builds, the others wait.
func (b Builder) Build(ctx context.Context, helm bool) error {
	for _, d := range []string{b.bin("cni"), b.images()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	lock, err := os.Create(filepath.Join(b.Cache, "lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	for _, s := range steps {
		if b.have(s.makes...) {
			continue
		}
		if err := b.timed(s.name, func() error { return b.goBuild(ctx, s) }); err != nil {
			return err
		}
	}
	if !b.have("pause") {
		if err := b.timed("pause", func() error { return b.pause(ctx) }); err != nil {
			return err
		}
	}
	if helm && !b.have("helm") {
		if err := b.timed("helm", func() error { return b.helm(ctx) }); err != nil {
			return err
		}
	}
	return b.pack()
}

// Ready says whether everything a node needs has been built.
func (b Builder) Ready() bool {
	for _, s := range steps {
		if !b.have(s.makes...) {
			return false
		}
	}
	return b.have("pause", "../images/pause.tar", "../images/coredns.tar", "../images/testapp.tar")
}

// goBuild builds into a directory beside the target first: a file in bin is always whole.
func (b Builder) goBuild(ctx context.Context, s step) error {
	tmp, err := os.MkdirTemp(b.Cache, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	args := []string{"build", "-o", tmp + "/", "-ldflags", s.ldflags}
	if s.tags != "" {
		args = append(args, "-tags", s.tags)
	}
	if len(s.pkgs) == 1 {
		args[2] = filepath.Join(tmp, filepath.Base(s.makes[0]))
	}
	cgo := "CGO_ENABLED=0"
	if s.cgo {
		cgo = "CGO_ENABLED=1"
	}
	if err := b.run(ctx, filepath.Join(b.Source, s.module), []string{cgo}, "go", append(args, s.pkgs...)...); err != nil {
		return err
	}
	if s.name == "runc" {
		if err := checkRunc(ctx, filepath.Join(tmp, "runc")); err != nil {
			return err
		}
	}
	for _, m := range s.makes {
		if err := os.Rename(filepath.Join(tmp, filepath.Base(m)), b.bin(m)); err != nil {
			return err
		}
	}
	return nil
}

func checkRunc(ctx context.Context, path string) error {
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if !strings.Contains(string(out), "libseccomp:") {
		return fmt.Errorf("runc was built without seccomp (is libseccomp-dev installed?): %s", out)
	}
	return nil
}

// pause is the one C program; its source comes with the Kubernetes module.
func (b Builder) pause(ctx context.Context) error {
	c := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	c.Dir, c.Env = b.Source, b.env()
	dir, err := c.Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	src := filepath.Join(strings.TrimSpace(string(dir)), "build/pause/linux/pause.c")
	tmp := b.bin("pause.new")
	if err := b.run(ctx, b.Source, nil, "gcc", "-Os", "-Wall", "-static", "-DVERSION=3.10", "-o", tmp, src); err != nil {
		return err
	}
	return os.Rename(tmp, b.bin("pause"))
}

func (b Builder) helm(ctx context.Context) error {
	tmp, err := os.MkdirTemp(b.Cache, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	err = b.run(ctx, tmp, []string{"CGO_ENABLED=0", "GOBIN=" + tmp}, "go", "install", "-ldflags", "-s -w", "helm.sh/helm/v4/cmd/helm@"+helmVersion)
	if err != nil {
		return err
	}
	return os.Rename(filepath.Join(tmp, "helm"), b.bin("helm"))
}

func (b Builder) pack() error {
	for _, name := range []string{"pause", "coredns", "testapp"} {
		if b.have("../images/" + name + ".tar") {
			continue
		}
		img := pack.Image{Name: "localhost/" + name + ":1", Programs: []string{b.bin(name)}}
		if err := pack.Write(filepath.Join(b.images(), name+".tar"), img); err != nil {
			return err
		}
	}
	return nil
}

func (b Builder) bin(name string) string { return filepath.Join(b.Cache, "bin", name) }
func (b Builder) images() string         { return filepath.Join(b.Cache, "images") }

func (b Builder) have(names ...string) bool {
	for _, n := range names {
		if _, err := os.Stat(b.bin(n)); err != nil {
			return false
		}
	}
	return true
}

// env has the same flags for all modules, so that they share compiled packages.
func (b Builder) env(extra ...string) []string {
	return append(append(os.Environ(), "GOFLAGS=-trimpath -buildvcs=false", "GOWORK=off", "CGO_ENABLED=0"), extra...)
}

func (b Builder) run(ctx context.Context, dir string, extra []string, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Env = dir, b.env(extra...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, args[0], err, out)
	}
	return nil
}

// timed says what is begun, that it still goes on, and how long it took.
func (b Builder) timed(name string, f func() error) error {
	start := time.Now()
	fmt.Fprintf(b.Out, "building %s\n", name)
	still := time.NewTicker(stillEvery)
	defer still.Stop()
	done := make(chan error, 1)
	go func() { done <- f() }()
	for waiting := true; waiting; {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("build %s: %w", name, err)
			}
			waiting = false
		case <-still.C:
			fmt.Fprintf(b.Out, "   still building %s: %.0f s\n", name, time.Since(start).Seconds())
		}
	}
	fmt.Fprintf(b.Out, "built %-12s %5.1fs\n", name, time.Since(start).Seconds())
	return nil
}
