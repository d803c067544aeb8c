// Package config writes the configuration files of the components into a cluster's state directory.
// In: the cluster's name, and its authority under pki/. Out: files under conf/, cni/ and manifests/, rendered from the
// templates in files/.
// It must not decide anything: every setting is in the templates, with its reason.
package config

import (
	"bytes"
	"embed"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

//go:embed files
var files embed.FS

// Values is what the templates can name.
type Values struct {
	Dir, Cgroup, KubeletRoot, Socket              string
	PodCIDR, NodePodCIDR, DNSIP, NodeIP, GlobalIP string
	CA                                            string // the authority's certificate, PEM in base64
	MetricsPort                                   int
}

// targets maps a template to its place in the state directory.
var targets = map[string]string{
	"containerd.toml":     "conf/containerd.toml",
	"kubelet.yaml":        "conf/kubelet.yaml",
	"kube-proxy.yaml":     "conf/kube-proxy.yaml",
	"audit-policy.yaml":   "conf/audit-policy.yaml",
	"10-bridge.conflist":  "cni/10-bridge.conflist",
	"coredns.yaml":        "manifests/coredns.yaml",
	"netpol-rbac.yaml":    "manifests/netpol-rbac.yaml",
	"metrics-server.yaml": "manifests/metrics-server.yaml",

	"runc-without-user-namespaces": "conf/runc-without-user-namespaces",
	// empty on purpose: the host's name servers must not reach pods with dnsPolicy Default
	"resolv.conf": "conf/resolv.conf",
}

// Write renders all files for the cluster.
func Write(c layout.Cluster) error {
	ca, err := os.ReadFile(c.In("pki/ca.crt"))
	if err != nil {
		return err
	}
	v := Values{
		Dir: c.Dir(), Cgroup: c.Cgroup(), KubeletRoot: layout.KubeletRoot, Socket: c.Socket(),
		PodCIDR: layout.PodCIDR, NodePodCIDR: layout.NodePodCIDR, DNSIP: layout.DNSIP, NodeIP: layout.NodeIP, GlobalIP: layout.GlobalIP,
		CA: base64.StdEncoding.EncodeToString(ca), MetricsPort: layout.MetricsPort,
	}
	for name, target := range targets {
		text, err := Render(name, v)
		if err != nil {
			return err
		}
		path := c.In(target)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if bytes.HasPrefix(text, []byte("#!")) {
			mode = 0o755
		}
		if err := os.WriteFile(path, text, mode); err != nil {
			return err
		}
	}
	return nil
}

// Render fills one template.
func Render(name string, v Values) ([]byte, error) {
	src, err := files.ReadFile("files/" + name)
	if err != nil {
		return nil, err
	}
	t, err := template.New(name).Option("missingkey=error").Parse(string(src))
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	return b.Bytes(), nil
}
