package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

const outside = "outside" // the second network namespace, behind the node's default route

// setUpNetwork joins the node to the outside namespace by a veth pair. The outside forwards nothing, so
// there is no way to the machine's real network. The default route is needed all the same: without any
// route a ClusterIP is unreachable before kube-proxy's rules have a chance.
func setUpNetwork() error {
	if err := ip("netns", "add", outside); err != nil {
		return err
	}
	err := ipBatch(nil,
		"link set lo up",
		"link add eth0 type veth peer name out0 netns "+outside,
		"addr add "+layout.NodeIP+"/24 dev eth0",
		"link set eth0 up",
		"route add default via "+layout.OutsideIP)
	if err != nil {
		return err
	}
	out := []string{
		"link set lo up",
		"addr add " + layout.OutsideIP + "/24 dev out0",
		"link set out0 up",
		"route add " + layout.PodCIDR + " via " + layout.NodeIP,
	}
	for _, a := range layout.StandIns {
		out = append(out, "addr add "+a+"/32 dev lo")
	}
	if err := ipBatch([]string{"-n", outside}, out...); err != nil {
		return err
	}
	for key, value := range map[string]string{
		"net/ipv4/ip_forward":          "1",
		"net/ipv4/conf/all/rp_filter":  "0",
		"net/ipv4/conf/eth0/rp_filter": "0",
		// without these, packets between two pods pass the bridge unseen: ClusterIP replies would not be
		// translated back and policies would not act
		"net/bridge/bridge-nf-call-iptables":  "1",
		"net/bridge/bridge-nf-call-ip6tables": "1",
	} {
		if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0); err != nil {
			return err
		}
	}
	return standIns()
}

func ip(args ...string) error { return runIP("", args...) }

func ipBatch(prefix []string, lines ...string) error {
	return runIP(strings.Join(lines, "\n")+"\n", append(prefix, "-batch", "-")...)
}

func runIP(input string, args ...string) error {
	c := exec.Command("ip", args...)
	c.Stdin = strings.NewReader(input)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// standIns opens the listeners of the outside. A socket stays in the network namespace it was made in, so
// only a thread that is never used again has to move there.
func standIns() error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime throws the thread away
		result <- listenOutside()
	}()
	return <-result
}

func listenOutside() error {
	ns, err := os.Open("/run/netns/" + outside)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0); err != nil {
		return err
	}
	var errs []error
	for _, a := range append([]string{layout.OutsideIP}, layout.StandIns...) {
		for _, p := range layout.StandInPorts {
			at := net.JoinHostPort(a, strconv.Itoa(p))
			l, err := net.Listen("tcp4", at)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			go answer(heard{l, at})
			c, err := net.ListenPacket("udp4", at)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			go answerDatagrams(c)
		}
	}
	return errors.Join(errs...)
}
