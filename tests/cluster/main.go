// Command cluster brings a real single-node Kubernetes up and down, and is that Kubernetes: etcd, the
// control plane, kubelet, kube-proxy, kubectl and a NetworkPolicy engine are this same program, chosen by
// the name it is called by or by its first argument.
// In: a command. Out: a cluster in namespaces of its own, reachable on the host's loopback only.
// It must not leave anything behind after `down` or the time limit, nor reach any real network.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"screenshot-operator.io/tests/cluster/internal/cli"
	"screenshot-operator.io/tests/cluster/internal/host"
	"screenshot-operator.io/tests/cluster/internal/layout"
	"screenshot-operator.io/tests/cluster/internal/node"
	"screenshot-operator.io/tests/cluster/internal/tools"
)

func main() {
	if run, ok := components[filepath.Base(os.Args[0])]; ok {
		run()
	}
	args := os.Args[1:]
	if len(args) > 0 {
		if run, ok := components[args[0]]; ok {
			os.Args = args
			useOwnKubeconfig()
			run()
		}
	}
	if err := run(args); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == node.Command:
		return node.Run(args[1])
	case len(args) == 2 && args[0] == host.CaretakerCommand:
		return host.Caretake(args[1])
	case len(args) > 0 && args[0] == "helm":
		useOwnKubeconfig()
		return syscall.Exec(filepath.Join(cache(), "bin", "helm"), args, os.Environ())
	}
	c, err := cli.Parse(args, defaultName())
	if errors.Is(err, cli.ErrHelp) {
		fmt.Print(cli.Usage)
		return nil
	}
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return execute(ctx, c)
}

func execute(ctx context.Context, c cli.Command) error {
	started := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("%6.1fs  %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, args...))
	}
	builder := tools.Builder{Source: os.Getenv("CLUSTER_SOURCE"), Cache: cache(), Out: os.Stdout}
	switch c.Verb {
	case "up":
		spec := layout.Spec{
			Name: c.Name, Port: c.Port, Started: started, TimeLimit: c.Limit, Cache: cache(),
			ControlPlaneOnly: c.ControlPlaneOnly, NetworkPolicy: !c.NoNetworkPolicy && !c.ControlPlaneOnly,
		}
		return host.Up(ctx, spec, builder, say)
	case "down":
		if err := host.Down(c.Name, say); err != nil {
			return err
		}
		say("down: nothing left")
		return nil
	case "status":
		s, err := host.GetStatus(c.Name)
		if err != nil {
			return err
		}
		return s.Print(os.Stdout, c.JSON)
	case "kubeconfig":
		fmt.Println(layout.Cluster{Name: c.Name}.Kubeconfig())
		return nil
	case "load":
		return host.Load(ctx, c.Name, c.Arg, os.Stdout)
	case "check":
		return host.Check(ctx, c.Name)
	case "network-policy":
		return host.SwitchPolicies(c.Name, c.Arg == "on")
	case "logs":
		return host.Logs(c.Name, c.Arg, os.Stdout)
	case "build":
		return builder.Build(ctx, true)
	}
	return fmt.Errorf("command %q has no implementation", c.Verb)
}

func defaultName() string {
	if n := os.Getenv("CLUSTER_NAME"); n != "" {
		return n
	}
	return layout.DefaultName
}

// cache is where cluster.sh put this program: <cache>/bin/cluster-<key>.
func cache() string {
	if c := os.Getenv("CLUSTER_CACHE"); c != "" {
		return c
	}
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Dir(filepath.Dir(exe))
}

// useOwnKubeconfig lets `cluster kubectl` and `cluster helm` ask this cluster and no other, whatever the environment names.
func useOwnKubeconfig() {
	_ = os.Setenv("KUBECONFIG", layout.Cluster{Name: defaultName()}.Kubeconfig()) // the name is a constant
}
