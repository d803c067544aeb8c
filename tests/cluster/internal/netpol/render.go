// Package netpol is a NetworkPolicy engine for the one node of a test cluster.
// In: pods, namespaces and NetworkPolicies. Out: one nftables table, loaded as one transaction.
// Rendering (this file and rules.go) is a pure function; engine.go watches the API and calls nft.
// It must not open a gap: an allowing rule only returns, and an address in the pod range that belongs
// to no known pod is dropped.
package netpol

import (
	"cmp"
	"fmt"
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
}

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
	var egress, ingress []string
	for _, p := range v.pods {
		e, i := v.podRules(p, policies)
		if e != nil {
			egress = append(egress, writeChain(&chains, "e", p, "daddr", e))
		}
		if i != nil {
			ingress = append(ingress, writeChain(&chains, "i", p, "saddr", i))
		}
	}
	const established = "ct state established,related accept\n"
	unknownFrom, unknownTo := v.unknown("saddr", s.PodCIDR), v.unknown("daddr", s.PodCIDR)
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n%s", Table, chains.String())
	fmt.Fprintf(&b, "chain forward {\ntype filter hook forward priority filter - 5; policy accept;\n%s", established)
	// the cluster is IPv4 only: IPv6 between pods could only be a way around the rules
	fmt.Fprintf(&b, "meta nfproto ipv6 counter drop\n%s%s%s%s}\n", unknownFrom, unknownTo, jumps("saddr", egress), jumps("daddr", ingress))
	fmt.Fprintf(&b, "chain input {\ntype filter hook input priority filter - 5; policy accept;\niifname \"lo\" accept\n%s", established)
	fmt.Fprintf(&b, "meta nfproto ipv6 counter drop\n%s%s}\n}\n", unknownFrom, jumps("saddr", egress))
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
		if p.Spec.HostNetwork || p.Status.PodIP == "" || done || strings.Contains(p.Status.PodIP, ":") {
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
	name := kind + "_" + strings.ReplaceAll(p.Status.PodIP, ".", "_")
	// a pod may always reach itself (through a Service)
	fmt.Fprintf(b, "chain %s {\nip %s %s return\n", name, peer, p.Status.PodIP)
	for _, r := range rules {
		b.WriteString(r + "\n")
	}
	b.WriteString("counter drop\n}\n")
	return p.Status.PodIP + " : jump " + name
}

func jumps(field string, entries []string) string {
	if len(entries) == 0 {
		return ""
	}
	return "ip " + field + " vmap { " + strings.Join(entries, ", ") + " }\n"
}

// unknown drops what comes from or goes to a pod address before the API has told whose it is.
func (v view) unknown(field, podCIDR string) string {
	if podCIDR == "" {
		return ""
	}
	m := "ip " + field + " " + podCIDR + " "
	if len(v.pods) > 0 {
		m += "ip " + field + " != " + addressSet(v.pods) + " "
	}
	return m + "counter drop\n"
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
