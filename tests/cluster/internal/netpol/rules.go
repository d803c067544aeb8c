package netpol

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// direction is which address of a packet the peers of a rule are matched on.
type direction struct {
	field  string      // "saddr" for ingress, "daddr" for egress
	target *corev1.Pod // the pod whose named ports count: the selected pod for ingress, nil (= the peer) for egress
}

// peer is one alternative of a rule: a match on addresses, and the pod whose named ports it may use.
type peer struct {
	match string
	pod   *corev1.Pod
}

// commentLimit is below nft's 128 bytes, over which it refuses the whole transaction.
const commentLimit = 100

// rule renders one ingress or egress rule of a policy as returning (= allowing) nft rules.
func (v view) rule(np *netv1.NetworkPolicy, d direction, peers []netv1.NetworkPolicyPeer, ports []netv1.NetworkPolicyPort) []string {
	comment := np.Namespace + "/" + np.Name
	verdict := fmt.Sprintf("counter return comment %q", comment[:min(len(comment), commentLimit)])
	var out []string
	for _, p := range v.peers(np.Namespace, d, peers, namesPorts(ports)) {
		if len(ports) == 0 {
			out = append(out, p.match+verdict)
		}
		for _, port := range ports {
			if m, ok := portMatch(port, p.pod); ok {
				out = append(out, p.match+m+verdict)
			}
		}
	}
	return out
}

// peers gives the alternatives of a rule; no peer listed means everyone.
func (v view) peers(ns string, d direction, peers []netv1.NetworkPolicyPeer, named bool) []peer {
	if len(peers) == 0 {
		out := []peer{{pod: d.target}}
		if d.target == nil && named {
			out = append(out, v.podPeers(d, v.pods, true)...)
		}
		return out
	}
	var out []peer
	for _, p := range peers {
		if p.IPBlock != nil {
			if m, ok := blockMatch(d.field, p.IPBlock); ok {
				out = append(out, peer{m, d.target})
			}
			continue
		}
		out = append(out, v.podPeers(d, v.selected(ns, p), named)...)
	}
	return out
}

// podPeers makes one alternative of all pods of a family, or one for each when named ports can differ between them.
func (v view) podPeers(d direction, pods []*corev1.Pod, named bool) []peer {
	var out []peer
	if d.target == nil && named {
		for _, p := range pods {
			out = append(out, peer{fmt.Sprintf("%s %s %s ", podFamily(p), d.field, p.Status.PodIP), p})
		}
		return out
	}
	for _, f := range []family{ipv4, ipv6} {
		if of := ofFamily(pods, f); len(of) > 0 {
			out = append(out, peer{fmt.Sprintf("%s %s %s ", f, d.field, addressSet(of)), d.target})
		}
	}
	return out
}

// selected gives the pods of a peer: a pod selector alone stays in the policy's namespace.
func (v view) selected(ns string, p netv1.NetworkPolicyPeer) []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range v.pods {
		inNamespace := pod.Namespace == ns
		if p.NamespaceSelector != nil {
			inNamespace = matches(p.NamespaceSelector, v.namespaces[pod.Namespace])
		}
		if inNamespace && (p.PodSelector == nil || matches(p.PodSelector, pod.Labels)) {
			out = append(out, pod)
		}
	}
	return out
}

// blockMatch gives no match for what is not a block. An exception that cannot be read, or is of the other
// family, makes the whole block match nothing: leaving it out would allow more than was written.
func blockMatch(field string, b *netv1.IPBlock) (string, bool) {
	c, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return "", false
	}
	f := familyOf(c.Addr())
	m := fmt.Sprintf("%s %s %s ", f, field, c.Masked())
	var except []string
	for _, e := range b.Except {
		q, err := netip.ParsePrefix(e)
		if err != nil || familyOf(q.Addr()) != f {
			return "", false
		}
		except = append(except, q.Masked().String())
	}
	if len(except) > 0 {
		m += fmt.Sprintf("%s %s != { %s } ", f, field, strings.Join(disjoint(except), ", "))
	}
	return m, true
}

// disjoint removes blocks that lie within others: nft refuses overlapping intervals in one set.
func disjoint(blocks []string) []string {
	var out []string
	for i, b := range blocks {
		p := netip.MustParsePrefix(b) // made from a prefix just before
		inside := slices.ContainsFunc(blocks[:i], func(o string) bool { return o == b })
		for _, o := range blocks {
			q := netip.MustParsePrefix(o)
			inside = inside || (q.Bits() < p.Bits() && q.Contains(p.Addr()))
		}
		if !inside {
			out = append(out, b)
		}
	}
	return out
}

// portMatch gives no match for a named port that the pod does not have.
func portMatch(p netv1.NetworkPolicyPort, pod *corev1.Pod) (string, bool) {
	proto := "tcp"
	if p.Protocol != nil {
		proto = strings.ToLower(string(*p.Protocol))
	}
	switch {
	case p.Port == nil:
		return "meta l4proto " + proto + " ", true
	case p.Port.Type == intstr.String:
		n, ok := portByName(pod, p.Port.StrVal, proto)
		return fmt.Sprintf("%s dport %d ", proto, n), ok
	case p.EndPort != nil:
		return fmt.Sprintf("%s dport %d-%d ", proto, p.Port.IntVal, *p.EndPort), true
	default:
		return fmt.Sprintf("%s dport %d ", proto, p.Port.IntVal), true
	}
}

func namesPorts(ports []netv1.NetworkPolicyPort) bool {
	return slices.ContainsFunc(ports, func(p netv1.NetworkPolicyPort) bool {
		return p.Port != nil && p.Port.Type == intstr.String
	})
}

func portByName(pod *corev1.Pod, name, proto string) (int32, bool) {
	if pod == nil {
		return 0, false
	}
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) { // init: sidecars
		for _, q := range c.Ports {
			same := strings.EqualFold(string(q.Protocol), proto) || (q.Protocol == "" && proto == "tcp")
			if q.Name == name && same {
				return q.ContainerPort, true
			}
		}
	}
	return 0, false
}
