// Package node is the inside of a cluster: pid 1 of its own pid, mount, network, uts and ipc namespaces.
// In: the state directory made by `up` and the host's listening socket as file 3. Out: running components,
// their logs and components.json. Killing pid 1 ends everything; it also ends itself at the time limit. What it then leaves
// on the host is the caretaker's to remove.
// It must not change anything outside its namespaces, except cgroups of the cluster's own.
package node

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

// Command is the argument that makes this program pid 1; the state directory follows it.
const Command = "pid1"

// ListenerFD is where pid 1 finds the socket that listens on the host's loopback.
const ListenerFD = 3

// Run is pid 1. It returns when the time limit is over, on SIGTERM, or when it could not start.
func Run(name string) error {
	if os.Getpid() != 1 {
		return errors.New("this command is started by `cluster up`, in namespaces of its own")
	}
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	spec, err := layout.ReadSpec(layout.Cluster{Name: name})
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	if err := setUp(spec); err != nil {
		log.Printf("FAILED: %v", err)
		return err
	}
	children := newChildren(spec.Cluster())
	go children.reap()
	if err := startComponents(children, spec); err != nil {
		log.Printf("FAILED: %v", err)
		return err
	}
	log.Print("all components started")
	log.Printf("ending: %s", waitForEnd(spec, func() (layout.Spec, error) { return layout.ReadSpec(spec.Cluster()) }, stop))
	return nil // the kernel kills everything that is left in the pid namespace
}

// waitForEnd gives the reason for the end. The spec is read again when its time is over: another `up` of the running
// cluster moves it.
func waitForEnd(spec layout.Spec, read func() (layout.Spec, error), stop <-chan os.Signal) string {
	for {
		select {
		case s := <-stop:
			return s.String()
		case <-time.After(time.Until(spec.Ends())):
		}
		now, err := read()
		if err != nil || !now.Ends().After(spec.Ends()) {
			return fmt.Sprintf("the time limit of %v is over", spec.TimeLimit)
		}
		spec = now
	}
}

func setUp(spec layout.Spec) error {
	if err := setUpMounts(spec); err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	if err := syscall.Sethostname([]byte(layout.NodeName)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if err := setUpNetwork(); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	go forward(ListenerFD, fmt.Sprintf("127.0.0.1:%d", layout.APIPort))
	return nil
}
