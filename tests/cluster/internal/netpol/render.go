// Package netpol is a NetworkPolicy engine for the one node of a test cluster.
// In: pods, namespaces and NetworkPolicies. Out: one nftables table, loaded as one transaction.
// Rendering (this file and rules.go) is a pure function; engine.go watches the API and calls nft.
// It must not open a gap: an allowing rule only returns, and an address in the pod range that belongs
// to no known pod is dropped.
package netpol

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Table is the nftables table's name (family inet).
const Table = "netpol"

// Unenforced is the label of a namespace whose policies are accepted and ignored, its value "true": what pods there see is
// a network that does not enforce, while every other namespace's is as it was.
const Unenforced = "netpol/unenforced"

// State is everything the rules follow from.
type State struct {
	Pods       []*corev1.Pod
	Namespaces []*corev1.Namespace
	Policies   []*netv1.NetworkPolicy
	PodCIDR    string // addresses in here that belong to no known pod are dropped
	PodCIDR6   string // the same in IPv6; without it the cluster is IPv4 only, and all IPv6 is dropped
}

// family is an address family, as nft names it.
type family string

const (
	ipv4 family = "ip"
	ipv6 family = "ip6"
)

func familyOf(address netip.Addr) family {
	if address.Is4() {
		return ipv4
	}
	return ipv6
}

// podFamily is that of a pod's address, which newView has read.
func podFamily(p *corev1.Pod) family { return familyOf(netip.MustParseAddr(p.Status.PodIP)) }

type view struct {
	pods       []*corev1.Pod // with an address of their own, one for each address, sorted by it
	namespaces map[string]labels.Set
}

// Render gives the text of the whole table for `nft -f -`. The same state gives the same text.
//
// The forward hook sees pod to pod and pod to outside, behind kube-proxy's address translation, so on
// real endpoints; the input hook sees pods that address the node itself. What the node sends to its
// pods (probes) is never filtered, as the API promises.
func Render(s State) string {
	v := newView(s)
	policies := slices.DeleteFunc(slices.Clone(s.Policies), func(p *netv1.NetworkPolicy) bool {
		return v.namespaces[p.Namespace][Unenforced] == "true"
	})
	slices.SortFunc(policies, func(a, b *netv1.NetworkPolicy) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	var chains strings.Builder
	egress, ingress := map[family][]string{}, map[family][]string{}
	for _, p := range v.pods {
		e, i := v.podRules(p, policies)
		f := podFamily(p)
		if e != nil {
			egress[f] = append(egress[f], writeChain(&chains, "e", p, "daddr", e))
		}
		if i != nil {
			ingress[f] = append(ingress[f], writeChain(&chains, "i", p, "saddr", i))
		}
	}
	const established = "ct state established,related accept\n"
	unknownFrom, unknownTo := v.unknown("saddr", s), v.unknown("daddr", s)
	// IPv6 between pods of an IPv4 cluster could only be a way around the rules. Where there is IPv6, neighbours must
	// be found; what finds them is never forwarded.
	const drop = "meta nfproto ipv6 counter drop\n"
	forwarded, received := drop, drop
	if s.PodCIDR6 != "" {
		forwarded, received = "", "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n%s", Table, chains.String())
	fmt.Fprintf(&b, "chain forward {\ntype filter hook forward priority filter - 5; policy accept;\n%s", established)
	fmt.Fprintf(&b, "%s%s%s%s%s}\n", forwarded, unknownFrom, unknownTo, jumps("saddr", egress), jumps("daddr", ingress))
	fmt.Fprintf(&b, "chain input {\ntype filter hook input priority filter - 5; policy accept;\niifname \"lo\" accept\n%s", established)
	fmt.Fprintf(&b, "%s%s%s}\n}\n", received, unknownFrom, jumps("saddr", egress))
	return b.String()
}

// Replace gives the script that swaps the table for text, or only removes it when text is empty.
func Replace(text string) string {
	return fmt.Sprintf("add table inet %s\ndelete table inet %s\n%s", Table, Table, text)
}

func newView(s State) view {
	v := view{namespaces: map[string]labels.Set{}}
	for _, n := range s.Namespaces {
		v.namespaces[n.Name] = n.Labels
	}
	byAddress := map[string]*corev1.Pod{}
	for _, p := range s.Pods {
		done := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		address, err := netip.ParseAddr(p.Status.PodIP)
		if p.Spec.HostNetwork || err != nil || done || (familyOf(address) == ipv6 && s.PodCIDR6 == "") {
			continue
		}
		// an ended pod's object can outlive its address, which is then given to a newer pod
		if o := byAddress[p.Status.PodIP]; o == nil || o.CreationTimestamp.Before(&p.CreationTimestamp) {
			byAddress[p.Status.PodIP] = p
		}
	}
	for _, p := range byAddress {
		v.pods = append(v.pods, p)
	}
	slices.SortFunc(v.pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Status.PodIP, b.Status.PodIP) })
	return v
}

// podRules gives the allowing rules of both directions; nil = not isolated, empty = nothing allowed.
func (v view) podRules(p *corev1.Pod, policies []*netv1.NetworkPolicy) (egress, ingress []string) {
	for _, np := range policies {
		if np.Namespace != p.Namespace || !matches(&np.Spec.PodSelector, p.Labels) {
			continue
		}
		if slices.Contains(np.Spec.PolicyTypes, netv1.PolicyTypeEgress) {
			if egress == nil {
				egress = []string{}
			}
			for _, r := range np.Spec.Egress {
				egress = append(egress, v.rule(np, direction{field: "daddr"}, r.To, r.Ports)...)
			}
		}
		if slices.Contains(np.Spec.PolicyTypes, netv1.PolicyTypeIngress) {
			if ingress == nil {
				ingress = []string{}
			}
			for _, r := range np.Spec.Ingress {
				ingress = append(ingress, v.rule(np, direction{field: "saddr", target: p}, r.From, r.Ports)...)
			}
		}
	}
	return egress, ingress
}

// writeChain writes a pod's chain of one direction and gives its entry in the jump map.
func writeChain(b *strings.Builder, kind string, p *corev1.Pod, peer string, rules []string) string {
	name := kind + "_" + strings.NewReplacer(".", "_", ":", "_").Replace(p.Status.PodIP)
	// a pod may always reach itself (through a Service)
	fmt.Fprintf(b, "chain %s {\n%s %s %s return\n", name, podFamily(p), peer, p.Status.PodIP)
	for _, r := range rules {
		b.WriteString(r + "\n")
	}
	b.WriteString("counter drop\n}\n")
	return p.Status.PodIP + " : jump " + name
}

func jumps(field string, entries map[family][]string) string {
	var out string
	for _, f := range []family{ipv4, ipv6} {
		if len(entries[f]) > 0 {
			out += fmt.Sprintf("%s %s vmap { %s }\n", f, field, strings.Join(entries[f], ", "))
		}
	}
	return out
}

// unknown drops what comes from or goes to a pod address before the API has told whose it is.
func (v view) unknown(field string, s State) string {
	var out string
	for _, r := range []struct {
		family
		cidr string
	}{{ipv4, s.PodCIDR}, {ipv6, s.PodCIDR6}} {
		if r.cidr == "" {
			continue
		}
		out += fmt.Sprintf("%s %s %s ", r.family, field, r.cidr)
		if pods := ofFamily(v.pods, r.family); len(pods) > 0 {
			out += fmt.Sprintf("%s %s != %s ", r.family, field, addressSet(pods))
		}
		out += "counter drop\n"
	}
	return out
}

func ofFamily(pods []*corev1.Pod, f family) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return podFamily(p) != f })
}

func addressSet(pods []*corev1.Pod) string {
	var l []string
	for _, p := range pods {
		l = append(l, p.Status.PodIP)
	}
	return "{ " + strings.Join(l, ", ") + " }"
}

// matches treats a selector that cannot be read as matching nothing; the API server refuses such ones anyway.
func matches(s *metav1.LabelSelector, l labels.Set) bool {
	sel, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && sel.Matches(l)
}
