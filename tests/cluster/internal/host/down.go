package host

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

// Down removes a cluster, whatever state it is in; when there is none it only checks that nothing is left.
func Down(name string, say func(string, ...any)) error {
	if os.Geteuid() != 0 {
		return errNotRoot // the directory of states would be made for this user, and refused to root from then on
	}
	unlock, err := lock(say)
	if err != nil {
		return err
	}
	defer unlock()
	return remove(layout.Cluster{Name: name})
}

// remove stops the cluster and deletes its state. The lock is held.
func remove(c layout.Cluster) error {
	if err := stop(c); err != nil {
		return err
	}
	if err := os.RemoveAll(c.Dir()); err != nil {
		return fmt.Errorf("remove %s: %w", c.Dir(), err)
	}
	return nil
}

// stop ends all processes and undoes what was changed on the machine; logs stay. It goes on after a
// failed step, so that as little as possible is left. The caretaker goes last: should this be killed half way, it takes over.
func stop(c layout.Cluster) error {
	if err := killPID1(c.Name); err != nil {
		return err // nothing else can work while it runs
	}
	errs := []error{removeCgroups(c)}
	if !anyNode(others(c.Name)) {
		errs = append(errs, restoreSysctls())
	}
	mounts, err := mountsBelow(c.Dir())
	errs = append(errs, err)
	if len(mounts) > 0 { // deleting through a mount would delete what is mounted
		errs = append(errs, fmt.Errorf("mounts on the host: %s", strings.Join(mounts, ", ")))
	}
	return errors.Join(append(errs, endCaretaker(c.Name))...)
}

// anyNode says whether one of these clusters runs a kubelet. One whose spec cannot be read might.
func anyNode(names []string) bool {
	for _, n := range names {
		if pid, err := findPID1(n); err == nil && pid == 0 {
			continue
		}
		if spec, err := layout.ReadSpec(layout.Cluster{Name: n}); err != nil || !spec.ControlPlaneOnly {
			return true
		}
	}
	return false
}
