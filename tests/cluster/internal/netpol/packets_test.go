package netpol

// The rules against packets: a node, its pods and an outside in network namespaces, the table loaded for real, and one
// connection after the other tried. The list of connections is shared with the operator's evaluator
// (operator/tests/netpol_engine.rs): what it says about each is what a kernel must do, so the two cannot drift apart.
// Nothing leaves the namespaces: they have no way out, and go with the test.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	roleEnv  = "NETPOL_PACKETS_ROLE"  // set in the copies of this program that run inside a namespace
	silence  = 400 * time.Millisecond // what a connection that must be closed is known by
	patience = 10 * time.Second       // one that must be open may be late: then the machine is busy, and no rule wrong
)

type connections struct {
	Namespaces []struct {
		Name   string
		Labels map[string]string
	}
	Pods []struct {
		Namespace, Name, IP string
		Labels              map[string]string
		Ports               []struct {
			Name, Protocol string
			Port           int32
		}
	}
	Policies    []*netv1.NetworkPolicy
	Connections []connection
}

// connection is a line of the list: from a pod or an outside address to an address and port.
type connection struct {
	From, To string // "namespace/name" of a pod, or an address outside
	Protocol string
	Port     uint16
	Open     bool
}

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "serve":
		serve(os.Args[1:])
	case "try":
		try(os.Args[1], os.Args[2], os.Args[3])
	default:
		os.Exit(m.Run())
	}
}

func TestTheKernelDoesWithEachConnectionWhatTheListSays(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs to be root to make network namespaces")
	}
	text, err := os.ReadFile("testdata/connections.json")
	if err != nil {
		t.Fatal(err)
	}
	var list connections
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	lab := newLab(t, list)
	lab.load(Replace(Render(lab.state)))
	var wait sync.WaitGroup
	opened := make([]bool, len(list.Connections))
	for i, c := range list.Connections {
		wait.Add(1)
		go func() {
			defer wait.Done()
			opened[i] = lab.try(c, c.Open)
		}()
	}
	wait.Wait()
	for i, c := range list.Connections {
		if opened[i] != c.Open {
			t.Errorf("%s -> %s %s/%d: open %v, the list says %v", c.From, c.To, c.Protocol, c.Port, opened[i], c.Open)
		}
	}
	// Without the rules everything passes: it is they that closed what was closed.
	lab.load(Replace(""))
	for _, c := range list.Connections {
		if !c.Open && !lab.try(c, true) {
			t.Errorf("%s -> %s %s/%d: closed without any rule", c.From, c.To, c.Protocol, c.Port)
		}
	}
}

// lab is a node with a veth pair to each pod and one to the outside.
type lab struct {
	t     *testing.T
	name  string
	state State
	at    map[string]string // pod or "outside" -> its namespace
	ip    map[string]string // pod -> its address
}

func newLab(t *testing.T, list connections) *lab {
	l := &lab{t: t, name: fmt.Sprintf("netpol-%d", os.Getpid()), at: map[string]string{}, ip: map[string]string{}}
	l.state.PodCIDR, l.state.PodCIDR6 = "10.244.0.0/16", "fd00:10:244::/64"
	for _, n := range list.Namespaces {
		l.state.Namespaces = append(l.state.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels}})
	}
	l.state.Policies = list.Policies
	node := l.namespace("node")
	l.inside(node, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	for i, p := range list.Pods {
		var ports []corev1.ContainerPort
		for _, q := range p.Ports {
			ports = append(ports, corev1.ContainerPort{Name: q.Name, ContainerPort: q.Port, Protocol: corev1.Protocol(q.Protocol)})
		}
		key := p.Namespace + "/" + p.Name
		l.state.Pods = append(l.state.Pods, pod(p.Namespace, p.Name, p.IP, p.Labels, ports...))
		l.ip[key], l.at[key] = p.IP, l.namespace(fmt.Sprintf("p%d", i))
		l.wire(node, l.at[key], fmt.Sprintf("p%d", i), []string{p.IP})
	}
	var outside []string
	seen := map[string]bool{}
	for _, c := range list.Connections {
		for _, end := range []string{c.From, c.To} {
			if net.ParseIP(end) != nil && !seen[end] {
				seen[end] = true
				outside = append(outside, end)
			}
		}
	}
	l.at["outside"] = l.namespace("out")
	l.wire(node, l.at["outside"], "out", outside)
	l.servers(list)
	return l
}

func (l *lab) namespace(suffix string) string {
	name := l.name + "-" + suffix
	l.run("ip", "netns", "add", name)
	l.t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	// an address serves at once: nobody else can have it
	l.inside(name, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
	l.inside(name, "ip", "link", "set", "lo", "up")
	return name
}

// wire connects a namespace with these addresses to the node, which is its only way.
func (l *lab) wire(node, to, link string, addresses []string) {
	const gateway, gateway6 = "100.127.255.1", "fe80::1"
	l.run("ip", "-n", node, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", to)
	l.run("ip", "-n", node, "link", "set", link, "up")
	l.run("ip", "-n", node, "address", "add", gateway+"/32", "dev", link)
	l.run("ip", "-n", node, "address", "add", gateway6+"/64", "dev", link)
	l.run("ip", "-n", to, "link", "set", "eth0", "up")
	l.run("ip", "-n", to, "route", "add", gateway+"/32", "dev", "eth0")
	first := map[family]bool{}
	for _, a := range addresses {
		f, via, host := ipv4, gateway, a+"/32"
		if strings.Contains(a, ":") {
			f, via, host = ipv6, gateway6, a+"/128"
		}
		l.run("ip", "-n", to, "address", "add", host, "dev", "eth0")
		l.run("ip", "-n", node, "route", "add", host, "dev", link)
		if !first[f] {
			first[f] = true
			l.run("ip", "-n", to, "route", "add", "default", "via", via, "dev", "eth0", "src", a)
		}
	}
}

// servers answers on every port that the list names, in every namespace.
func (l *lab) servers(list connections) {
	var ports []string
	seen := map[string]bool{}
	for _, c := range list.Connections {
		port := fmt.Sprintf("%s/%d", c.Protocol, c.Port)
		if !seen[port] {
			seen[port] = true
			ports = append(ports, port)
		}
	}
	for _, namespace := range l.at {
		cmd := exec.Command("ip", append([]string{"netns", "exec", namespace, os.Args[0]}, ports...)...)
		cmd.Env = append(os.Environ(), roleEnv+"=serve")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			l.t.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		if _, err := out.Read(make([]byte, 1)); err != nil {
			l.t.Fatalf("no servers in %s: %v", namespace, err)
		}
	}
}

func (l *lab) load(script string) {
	l.t.Helper()
	cmd := exec.Command("ip", "netns", "exec", l.name+"-node", "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("nft: %v\n%s", err, out)
	}
}

// try makes one connection, which is expected to be open or not, and says whether it was answered.
func (l *lab) try(c connection, open bool) bool {
	from, to := c.From, c.To
	namespace, ok := l.at[from]
	if !ok {
		namespace = l.at["outside"]
	}
	source := from
	if ip, ok := l.ip[from]; ok {
		source = ip
	}
	if ip, ok := l.ip[to]; ok {
		to = ip
	}
	target := fmt.Sprintf("%s/%s", strings.ToLower(c.Protocol), net.JoinHostPort(to, fmt.Sprint(c.Port)))
	bound := silence
	if open {
		bound = patience
	}
	cmd := exec.Command("ip", "netns", "exec", namespace, os.Args[0], source, target, bound.String())
	cmd.Env = append(os.Environ(), roleEnv+"=try")
	return cmd.Run() == nil
}

func (l *lab) inside(namespace string, args ...string) {
	l.t.Helper()
	l.run("ip", append([]string{"netns", "exec", namespace}, args...)...)
}

func (l *lab) run(name string, args ...string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// serve answers on all addresses of the namespace that it runs in until it is killed.
func serve(ports []string) {
	for _, p := range ports {
		protocol, port, _ := strings.Cut(p, "/")
		if protocol == "UDP" {
			echo(port)
			continue
		}
		listener, err := net.Listen("tcp", ":"+port)
		must(err)
		go func() {
			for {
				if conn, err := listener.Accept(); err == nil {
					_, _ = conn.Write([]byte("!"))
					_ = conn.Close()
				}
			}
		}()
	}
	fmt.Print("!")
	select {}
}

// echo answers from the address that was asked, which takes a socket for each.
func echo(port string) {
	addresses, err := net.InterfaceAddrs()
	must(err)
	for _, a := range addresses {
		network, ok := a.(*net.IPNet)
		if !ok || network.IP.IsLinkLocalUnicast() {
			continue
		}
		conn, err := net.ListenPacket("udp", net.JoinHostPort(network.IP.String(), port))
		must(err)
		go func() {
			buf := make([]byte, 64)
			for {
				if n, peer, err := conn.ReadFrom(buf); err == nil {
					_, _ = conn.WriteTo(buf[:n], peer)
				}
			}
		}()
	}
}

// try ends with success if the target answers: the dial and the answer have that long each.
func try(source, target, within string) {
	bound, err := time.ParseDuration(within)
	must(err)
	network, address, _ := strings.Cut(target, "/")
	var local net.Addr = &net.TCPAddr{IP: net.ParseIP(source)}
	if network == "udp" {
		local = &net.UDPAddr{IP: net.ParseIP(source)}
	}
	dialer := net.Dialer{Timeout: bound, LocalAddr: local}
	conn, err := dialer.Dial(network, address)
	must(err)
	must(conn.SetDeadline(time.Now().Add(bound)))
	if network == "udp" {
		_, err = conn.Write([]byte("!"))
		must(err)
	}
	n, err := conn.Read(make([]byte, 1))
	must(err)
	if n != 1 {
		must(errors.New("no answer"))
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
