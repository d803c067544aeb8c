package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

const (
	checkNamespace = "cluster-check"
	checkWithin    = 60 * time.Second
)

// Check proves again what `up` proved of a running cluster: that DNS answers, policies act, Pod Security acts.
func Check(ctx context.Context, name string) error {
	w, err := newWaiter(layout.Cluster{Name: name})
	if err != nil {
		return fmt.Errorf("cluster %q is not up: %w", name, err)
	}
	if err := w.wait(ctx, "check: the namespace of the check before", "kube-controller-manager", checkWithin, func(ctx context.Context) (bool, string) {
		_, err := w.client.CoreV1().Namespaces().Get(ctx, checkNamespace, metav1.GetOptions{})
		return apierrors.IsNotFound(err), text(err)
	}); err != nil {
		return err
	}
	return w.checkPods(ctx, true)
}

// checkPods proves with real pods that DNS answers, that NetworkPolicies act, or are ignored where `enforced` is false,
// and that Pod Security acts. `fenced` is under a policy that allows one address: it must reach that one, and the other only
// where policies are ignored. `free` is the control: without a policy it must reach the other one, else "blocked"
// would prove nothing.
func (w waiter) checkPods(ctx context.Context, enforced bool) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: checkNamespace, Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted",
	}}}
	if _, err := w.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("check namespace: %w", err)
	}
	defer func() { // also after a failure, and without waiting for it
		_ = w.client.CoreV1().Namespaces().Delete(context.WithoutCancel(ctx), checkNamespace, metav1.DeleteOptions{})
	}()
	if _, err := w.client.NetworkingV1().NetworkPolicies(checkNamespace).Create(ctx, checkPolicy(), metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("check policy: %w", err)
	}
	if err := w.wait(ctx, "check: service account", "kube-controller-manager", checkWithin, func(ctx context.Context) (bool, string) {
		_, err := w.client.CoreV1().ServiceAccounts(checkNamespace).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, text(err)
	}); err != nil {
		return err
	}
	public, metadata := layout.PublicIP+":8080", layout.MetadataIP+":80"
	fence := "+"
	if enforced {
		fence = "-"
	}
	for name, args := range map[string][]string{
		"fenced": {"check", "+" + public, fence + metadata},
		"free":   {"check", "+" + public, "+" + metadata},
		"asker":  {"resolve", "kubernetes.default.svc.cluster.local", layout.ServiceIP},
	} {
		if _, err := w.client.CoreV1().Pods(checkNamespace).Create(ctx, checkPod(name, args), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("pod security should admit pod %s: %w", name, err)
		}
	}
	return errors.Join(w.refusesPrivileged(ctx),
		w.podSucceeds(ctx, "asker", "DNS does not answer as it should", "kube-proxy"),
		w.podSucceeds(ctx, "fenced", "network policies do not act as they should", "netpol"),
		w.podSucceeds(ctx, "free", "network policies do not act as they should", "netpol"))
}

func checkPolicy() *netv1.NetworkPolicy {
	port := intstr.FromInt32(8080)
	return &netv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "fence"},
		Spec: netv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"check": "fenced"}},
			PolicyTypes: []netv1.PolicyType{netv1.PolicyTypeIngress, netv1.PolicyTypeEgress},
			Egress: []netv1.NetworkPolicyEgressRule{{
				To:    []netv1.NetworkPolicyPeer{{IPBlock: &netv1.IPBlock{CIDR: layout.PublicIP + "/32"}}},
				Ports: []netv1.NetworkPolicyPort{{Port: &port}},
			}},
		},
	}
}

// checkPod is a pod that Pod Security's restricted level admits.
func checkPod(name string, args []string) *corev1.Pod {
	yes, no, id := true, false, int64(65532)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"check": name}},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: &no,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: &yes, RunAsUser: &id, RunAsGroup: &id,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "check", Image: "localhost/testapp:1", Args: args, ImagePullPolicy: corev1.PullIfNotPresent,
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
}

func (w waiter) refusesPrivileged(ctx context.Context) error {
	yes := true
	p := checkPod("privileged", nil)
	p.Spec.Containers[0].SecurityContext.Privileged = &yes
	p.Spec.Containers[0].SecurityContext.AllowPrivilegeEscalation = &yes
	_, err := w.client.CoreV1().Pods(checkNamespace).Create(ctx, p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if !apierrors.IsForbidden(err) {
		return fmt.Errorf("pod security should refuse a privileged pod; the answer was: %v", err)
	}
	return nil
}

// podSucceeds waits for a pod of the checks; `wrong` is what its failure means, `logs` whose log may tell why.
func (w waiter) podSucceeds(ctx context.Context, name, wrong, logs string) error {
	var pod *corev1.Pod
	err := w.wait(ctx, "check: pod "+name, "kubelet", checkWithin, func(ctx context.Context) (bool, string) {
		p, err := w.client.CoreV1().Pods(checkNamespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		pod = p
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed, "phase " + string(p.Status.Phase)
	})
	if err != nil || pod.Status.Phase == corev1.PodSucceeded {
		return err
	}
	said, err := w.client.CoreV1().Pods(checkNamespace).GetLogs(name, &corev1.PodLogOptions{}).DoRaw(ctx)
	return errors.Join(err, fmt.Errorf("%s, pod %s says: %s; see %s",
		wrong, name, strings.ReplaceAll(strings.TrimSpace(string(said)), "\n", ", "), w.cluster.Log(logs)))
}
