package netpol

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

func pod(ns, name, ip string, labels map[string]string, ports ...corev1.ContainerPort) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Ports: ports}}},
		Status:     corev1.PodStatus{PodIP: ip, Phase: corev1.PodRunning},
	}
}

// world has two namespaces and three pods; a is the one the policies select.
func world(t *testing.T, specs ...string) State {
	t.Helper()
	s := State{
		PodCIDR: "10.244.0.0/16",
		Namespaces: []*corev1.Namespace{
			{ObjectMeta: metav1.ObjectMeta{Name: "one", Labels: map[string]string{"team": "one"}}},
			{ObjectMeta: metav1.ObjectMeta{Name: "two", Labels: map[string]string{"team": "two"}}},
		},
		Pods: []*corev1.Pod{
			pod("one", "a", "10.244.0.2", map[string]string{"app": "a"}, corev1.ContainerPort{Name: "web", ContainerPort: 8080}),
			pod("one", "b", "10.244.0.3", map[string]string{"app": "b"}, corev1.ContainerPort{Name: "web", ContainerPort: 9090}),
			pod("two", "b", "10.244.0.4", map[string]string{"app": "b"}, corev1.ContainerPort{Name: "web", ContainerPort: 7070}),
		},
	}
	for i, text := range specs {
		np := &netv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "one", Name: "p" + string(rune('0'+i))}}
		if err := yaml.UnmarshalStrict([]byte(text), &np.Spec); err != nil {
			t.Fatal(err)
		}
		s.Policies = append(s.Policies, np)
	}
	return s
}

// chain gives the body of one chain, without the comments of rules.
func chain(t *testing.T, text, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "chain "+name+" {\n")
	if !ok {
		return "(none)"
	}
	body, _, _ := strings.Cut(rest, "}\n")
	for strings.Contains(body, "{ ") && strings.Count(body, "{") > strings.Count(body, "}") {
		_, rest, _ = strings.Cut(rest, "}\n")
		more, _, _ := strings.Cut(rest, "}\n")
		body += "}\n" + more
	}
	var out []string
	for line := range strings.Lines(body) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " comment ")
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

const selectA = "podSelector: {matchLabels: {app: a}}\n"

func TestRulesOfOnePolicy(t *testing.T) {
	const selfOut, selfIn, drop = "ip daddr 10.244.0.2 return\n", "ip saddr 10.244.0.2 return\n", "counter drop"
	for name, c := range map[string]struct{ spec, chain, want string }{
		"deny all leaves only the pod itself": {
			selectA + "policyTypes: [Egress]", "e_10_244_0_2", selfOut + drop},
		"a policy of one direction leaves the other open": {
			selectA + "policyTypes: [Egress]", "i_10_244_0_2", "(none)"},
		"an empty rule allows everything": {
			selectA + "policyTypes: [Egress]\negress: [{}]", "e_10_244_0_2", selfOut + "counter return\n" + drop},
		"a pod selector stays in the policy's namespace": {
			selectA + "policyTypes: [Egress]\negress: [{to: [{podSelector: {matchLabels: {app: b}}}]}]", "e_10_244_0_2",
			selfOut + "ip daddr { 10.244.0.3 } counter return\n" + drop},
		"both selectors in one peer must both match": {
			selectA + "policyTypes: [Ingress]\ningress: [{from: [{podSelector: {matchLabels: {app: b}}, namespaceSelector: {matchLabels: {team: two}}}]}]", "i_10_244_0_2",
			selfIn + "ip saddr { 10.244.0.4 } counter return\n" + drop},
		"an empty namespace selector means all namespaces": {
			selectA + "policyTypes: [Ingress]\ningress: [{from: [{namespaceSelector: {}}]}]", "i_10_244_0_2",
			selfIn + "ip saddr { 10.244.0.2, 10.244.0.3, 10.244.0.4 } counter return\n" + drop},
		"a selector without pods allows nothing": {
			selectA + "policyTypes: [Egress]\negress: [{to: [{podSelector: {matchLabels: {app: none}}}]}]", "e_10_244_0_2", selfOut + drop},
		"a block with exceptions": {
			selectA + "policyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 10.1.0.0/16, 169.254.0.0/16]}}], ports: [{port: 443}]}]", "e_10_244_0_2",
			selfOut + "ip daddr 0.0.0.0/0 ip daddr != { 10.0.0.0/8, 169.254.0.0/16 } tcp dport 443 counter return\n" + drop},
		"an unreadable exception closes its block": {
			selectA + "policyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [nonsense]}}]}]", "e_10_244_0_2", selfOut + drop},
		"an IPv6 block opens no IPv4": {
			selectA + "policyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: '::/0'}}]}]", "e_10_244_0_2", selfOut + "ip6 daddr ::/0 counter return\n" + drop},
		"an exception of the other family closes its block": {
			selectA + "policyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: '::/0', except: [10.0.0.0/8]}}]}]", "e_10_244_0_2", selfOut + drop},
		"a port range and a protocol": {
			selectA + "policyTypes: [Egress]\negress: [{ports: [{port: 8000, endPort: 8090}, {protocol: UDP, port: 53}, {protocol: SCTP}]}]", "e_10_244_0_2",
			selfOut + "tcp dport 8000-8090 counter return\nudp dport 53 counter return\nmeta l4proto sctp counter return\n" + drop},
		"a named port of ingress is the selected pod's": {
			selectA + "policyTypes: [Ingress]\ningress: [{ports: [{port: web}]}]", "i_10_244_0_2", selfIn + "tcp dport 8080 counter return\n" + drop},
		"a named port of egress is each peer's own": {
			selectA + "policyTypes: [Egress]\negress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {app: b}}}], ports: [{port: web}]}]", "e_10_244_0_2",
			selfOut + "ip daddr 10.244.0.3 tcp dport 9090 counter return\nip daddr 10.244.0.4 tcp dport 7070 counter return\n" + drop},
		"a named port nobody has allows nothing": {
			selectA + "policyTypes: [Egress]\negress: [{ports: [{port: nope}]}]", "e_10_244_0_2", selfOut + drop},
		"a named port of the wrong protocol allows nothing": {
			selectA + "policyTypes: [Ingress]\ningress: [{ports: [{port: web, protocol: UDP}]}]", "i_10_244_0_2", selfIn + drop},
		"pods that are not selected have no chain": {
			selectA + "policyTypes: [Egress]", "e_10_244_0_3", "(none)"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := chain(t, Render(world(t, c.spec)), c.chain); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestPoliciesAdd(t *testing.T) {
	text := Render(world(t, selectA+"policyTypes: [Egress]", selectA+"policyTypes: [Egress]\negress: [{ports: [{port: 1}]}]"))
	if got := chain(t, text, "e_10_244_0_2"); !strings.Contains(got, "tcp dport 1 counter return") {
		t.Errorf("the second policy's rule is missing:\n%s", got)
	}
}

func TestPoliciesOfAnUnenforcedNamespaceAreIgnored(t *testing.T) {
	s := world(t, selectA+"policyTypes: [Egress]")
	const enforced = "ip daddr 10.244.0.2 return\ncounter drop"
	for value, want := range map[string]string{"true": "(none)", "false": enforced} {
		s.Namespaces[0].Labels[Unenforced] = value
		if got := chain(t, Render(s), "e_10_244_0_2"); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", value, got, want)
		}
	}
	s.Policies[0].Namespace, s.Namespaces[0].Labels[Unenforced] = "two", "true"
	s.Policies[0].Spec.PodSelector = metav1.LabelSelector{}
	if got := chain(t, Render(s), "e_10_244_0_4"); !strings.Contains(got, "counter drop") {
		t.Errorf("another namespace: got\n%s", got)
	}
}

func TestBothDirectionsAreJudgedAndUnknownAddressesDropped(t *testing.T) {
	text := Render(world(t, selectA+"policyTypes: [Ingress, Egress]"))
	known := "{ 10.244.0.2, 10.244.0.3, 10.244.0.4 }"
	for _, want := range []string{
		"ip saddr vmap { 10.244.0.2 : jump e_10_244_0_2 }\nip daddr vmap { 10.244.0.2 : jump i_10_244_0_2 }\n",
		"ip saddr 10.244.0.0/16 ip saddr != " + known + " counter drop\nip daddr 10.244.0.0/16 ip daddr != " + known + " counter drop\n",
		"meta nfproto ipv6 counter drop\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing %q in\n%s", want, text)
		}
	}
	// pods -> the node itself pass the input hook
	_, input, _ := strings.Cut(text, "chain input {")
	if !strings.Contains(input, "jump e_10_244_0_2") || !strings.Contains(input, "ip saddr != "+known+" counter drop") {
		t.Errorf("the input hook lets pods through:\n%s", input)
	}
}

func TestOnlyLivePodsWithAnAddressOfTheirOwnCount(t *testing.T) {
	s := world(t)
	old, gone, node := pod("one", "old", "10.244.0.9", nil), pod("one", "gone", "10.244.0.8", nil), pod("one", "node", "10.77.0.10", nil)
	fresh := pod("one", "fresh", "10.244.0.9", map[string]string{"app": "a"})
	fresh.CreationTimestamp = metav1.NewTime(time.Unix(100, 0))
	old.CreationTimestamp = metav1.NewTime(time.Unix(50, 0))
	gone.Status.Phase, node.Spec.HostNetwork = corev1.PodFailed, true
	s.Pods = []*corev1.Pod{fresh, old, gone, node, pod("one", "six", "fd00::9", nil)}
	for cidr6, want := range map[string]int{"": 1, "fd00::/64": 2} {
		s.PodCIDR6 = cidr6
		v := newView(s)
		if len(v.pods) != want || v.pods[0].Name != "fresh" {
			t.Errorf("IPv6 range %q: got %d pods, the first %q", cidr6, len(v.pods), v.pods[0].Name)
		}
	}
}

func TestTheOrderOfTheInputDoesNotMatter(t *testing.T) {
	s := world(t, selectA+"policyTypes: [Egress]", selectA+"policyTypes: [Ingress]")
	first := Render(s)
	s.Pods[0], s.Pods[2] = s.Pods[2], s.Pods[0]
	s.Policies[0], s.Policies[1] = s.Policies[1], s.Policies[0]
	if Render(s) != first {
		t.Error("the text differs")
	}
}

// nft refuses a whole transaction for one comment over 128 bytes or one overlapping interval, so the
// hardest state of these tests goes through the real nft, in a network namespace of its own.
func TestNftAcceptsTheHardestTable(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil || os.Geteuid() != 0 {
		t.Skip("nft and root are needed")
	}
	s := world(t, selectA+"policyTypes: [Ingress, Egress]\negress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 10.1.0.0/16, 10.0.0.0/8]}}, {namespaceSelector: {}}], ports: [{port: web}, {port: 1, endPort: 5}, {protocol: SCTP}]}]\ningress: [{from: [{podSelector: {}}]}]")
	s.Policies[0].Name = strings.Repeat("long-name.", 25)
	s.Policies[0].Spec.Ingress[0].Ports = []netv1.NetworkPolicyPort{{Port: &intstr.IntOrString{IntVal: 80}}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, text := range []string{Render(s), Render(State{PodCIDR: "10.244.0.0/16"}), ""} {
		c := exec.CommandContext(ctx, "unshare", "-n", "nft", "-f", "-")
		c.Stdin = strings.NewReader(Replace(text))
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v: %s\n%s", err, out, text)
		}
	}
}
