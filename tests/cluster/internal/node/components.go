package node

import (
	"fmt"
	"os"
	"time"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

const socketWait = 30 * time.Second

// startComponents starts everything at once; each retries until what it needs is there. Only the kubelet
// gives up when containerd's socket is missing, so that one waits.
func startComponents(c *children, spec layout.Spec) error {
	full := !spec.ControlPlaneOnly
	for _, p := range []struct {
		name, path string
		args       []string
		wanted     bool
	}{
		{"etcd", "", etcd(spec), true},
		{"kube-apiserver", "", apiserver(spec), true},
		{"containerd", spec.Cluster().In("bin", "containerd"), []string{"--config", spec.Cluster().In("conf/containerd.toml")}, full},
		{"kube-controller-manager", "", controllerManager(spec), true},
		{"kube-scheduler", "", scheduler(spec), full},
		{"kube-proxy", "", kubeProxy(spec), full},
		{"netpol", "", netpol(spec), full && spec.NetworkPolicy},
		{"metrics-server", "", metricsServer(spec), full},
	} {
		if !p.wanted {
			continue
		}
		if err := c.start(p.name, p.path, p.args...); err != nil {
			return fmt.Errorf("start %s: %w", p.name, err)
		}
	}
	if !full {
		return nil
	}
	if err := waitForFile(spec.Cluster().Socket(), socketWait); err != nil {
		return fmt.Errorf("containerd: %w", err)
	}
	if err := c.start("kubelet", "", kubelet(spec)...); err != nil {
		return fmt.Errorf("start kubelet: %w", err)
	}
	return nil
}

func waitForFile(path string, limit time.Duration) error {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no %s after %v", path, limit)
}

func etcd(spec layout.Spec) []string {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380" // loopback of a private namespace
	return []string{
		"--name=" + layout.NodeName, "--data-dir=" + spec.Cluster().In("etcd"), "--log-level=warn",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=" + layout.NodeName + "=" + peer,
		"--unsafe-no-fsync", // the data need not outlive the process
		"--quota-backend-bytes=1073741824", "--auto-compaction-mode=periodic", "--auto-compaction-retention=10m",
	}
}

func apiserver(spec layout.Spec) []string {
	c := spec.Cluster()
	p := func(f string) string { return c.In("pki", f) }
	return []string{
		"--advertise-address=" + layout.NodeIP, // must not be a loopback address
		"--bind-address=0.0.0.0", fmt.Sprintf("--secure-port=%d", layout.APIPort),
		"--etcd-servers=http://127.0.0.1:2379", "--etcd-compaction-interval=5m",
		"--service-cluster-ip-range=" + layout.ServiceCIDR,
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement", "--allow-privileged=true",
		"--client-ca-file=" + p("ca.crt"), "--tls-cert-file=" + p("apiserver.crt"), "--tls-private-key-file=" + p("apiserver.key"),
		"--kubelet-client-certificate=" + p("apiserver-kubelet-client.crt"), "--kubelet-client-key=" + p("apiserver-kubelet-client.key"),
		"--kubelet-certificate-authority=" + p("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + p("sa.pub"), "--service-account-signing-key-file=" + p("sa.key"),
		"--requestheader-client-ca-file=" + p("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + p("front-proxy-client.crt"), "--proxy-client-key-file=" + p("front-proxy-client.key"),
		"--audit-policy-file=" + c.In("conf/audit-policy.yaml"), "--audit-log-path=" + c.Log("audit"), "--audit-log-maxsize=100",
		"--profiling=false",
	}
}

// fastClient lifts the client limits: with the default ones a controller manager needs 8 s to start its controllers.
var fastClient = []string{"--leader-elect=false", "--bind-address=127.0.0.1", "--profiling=false", "--kube-api-qps=300", "--kube-api-burst=600"}

func controllerManager(spec layout.Spec) []string {
	c := spec.Cluster()
	return append([]string{
		"--kubeconfig=" + c.In("pki/controller-manager.kubeconfig"), "--use-service-account-credentials",
		"--service-account-private-key-file=" + c.In("pki/sa.key"), "--root-ca-file=" + c.In("pki/ca.crt"),
		"--cluster-signing-cert-file=" + c.In("pki/ca.crt"), "--cluster-signing-key-file=" + c.In("pki/ca.key"),
		"--allocate-node-cidrs", "--cluster-cidr=" + layout.PodCIDR, "--node-cidr-mask-size=24",
		"--service-cluster-ip-range=" + layout.ServiceCIDR,
		"--flex-volume-plugin-dir=" + layout.KubeletRoot + "/volume-plugins",
		"--horizontal-pod-autoscaler-sync-period=2s", // 15 s by default, on top of the 10 to 20 s that metrics are old
	}, fastClient...)
}

func scheduler(spec layout.Spec) []string {
	return append([]string{"--kubeconfig=" + spec.Cluster().In("pki/scheduler.kubeconfig")}, fastClient...)
}

func kubeProxy(spec layout.Spec) []string {
	return []string{"--config=" + spec.Cluster().In("conf/kube-proxy.yaml"), "--hostname-override=" + layout.NodeName}
}

func netpol(spec layout.Spec) []string {
	return []string{"--kubeconfig=" + spec.Cluster().In("pki/netpol.kubeconfig"), "--pod-cidr=" + layout.PodCIDR}
}

// metricsServer asks the kubelet as often as it may: a change shows within 10 to 20 s.
func metricsServer(spec layout.Spec) []string {
	c := spec.Cluster()
	kubeconfig := c.In("pki/metrics-server.kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=" + layout.NodeIP, fmt.Sprintf("--secure-port=%d", layout.MetricsPort),
		"--tls-cert-file=" + c.In("pki/metrics-server.crt"), "--tls-private-key-file=" + c.In("pki/metrics-server.key"),
		"--kubelet-certificate-authority=" + c.In("pki/ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--metric-resolution=10s", "--kubelet-request-timeout=5s", // the least there is, and less than it
	}
}

func kubelet(spec layout.Spec) []string {
	c := spec.Cluster()
	return []string{
		"--config=" + c.In("conf/kubelet.yaml"), "--kubeconfig=" + c.In("pki/node.kubeconfig"),
		"--root-dir=" + layout.KubeletRoot, "--cert-dir=" + layout.KubeletRoot + "/pki",
		"--hostname-override=" + layout.NodeName, "--node-ip=" + layout.NodeIP,
	}
}
