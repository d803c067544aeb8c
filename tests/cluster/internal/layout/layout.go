// Package layout says where everything of one test cluster is: names, addresses, paths.
// In: a cluster's name. Out: constants and paths that both sides (host and pid 1) agree on.
// It must not touch the file system beyond reading and writing the cluster's own spec file.
package layout

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Addresses. They exist only in network namespaces of the cluster's own, so several clusters can share them.
const (
	NodeName    = "node-1"
	NodeIP      = "10.77.0.10"
	OutsideIP   = "10.77.0.1" // default gateway of the node; forwards nothing
	PodCIDR     = "10.244.0.0/16"
	NodePodCIDR = "10.244.0.0/24"
	ServiceCIDR = "10.96.0.0/16"
	ServiceIP   = "10.96.0.1"
	DNSIP       = "10.96.0.10"
	APIPort     = 6443  // of the API server, inside
	MetricsPort = 4443  // of metrics-server, inside
	DefaultPort = 16443 // of the API server, on the host's loopback
)

// Stand-ins for what a pod might reach on a real network; each answers "reached <address>".
const (
	MetadataIP = "169.254.169.254" // a cloud's metadata service
	PublicIP   = "203.0.113.10"    // a site on the internet, in a range that is for documentation
	PrivateIP  = "192.168.50.10"   // a machine on a private network
	SharedIP   = "100.64.0.10"     // one behind a carrier's address translation
	GlobalIP   = "93.184.215.14"   // a site on the internet whose address no registry calls special
)

// StandInPorts are the TCP and UDP ports each stand-in listens on.
var StandInPorts = []int{53, 80, 443, 8080}

// StandIns lists the stand-in addresses.
var StandIns = []string{MetadataIP, PublicIP, PrivateIP, SharedIP, GlobalIP}

// KubeletRoot is the kubelet's root directory as pods and hostPath volumes see it.
const KubeletRoot = "/var/lib/kubelet"

// Base holds one directory for each cluster. It is short (unix socket paths end at 107 bytes) and it is
// not under /run, /var/lib or /var/log, which pid 1 covers with file systems of its own.
const Base = "/var/tmp/sscluster"

// DefaultName is the cluster's name when none is given.
const DefaultName = "dev"

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$`)

// CheckName refuses names that do not fit a path, a cgroup and a host name.
func CheckName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("cluster name %q: want 1 to 20 of a-z, 0-9 and '-', not '-' at an end", name)
	}
	return nil
}

// Cluster is one cluster by name; all its paths follow from that.
type Cluster struct{ Name string }

// Dir is the cluster's state directory.
func (c Cluster) Dir() string { return filepath.Join(Base, c.Name) }

// In is a path inside the state directory.
func (c Cluster) In(elem ...string) string {
	return filepath.Join(append([]string{c.Dir()}, elem...)...)
}

// Kubeconfig is the administrator's kubeconfig for use on the host.
func (c Cluster) Kubeconfig() string { return c.In("kubeconfig") }

// Complete is there once an `up` has come to its end.
func (c Cluster) Complete() string { return c.In("complete.json") }

// Log is the log file of a component.
func (c Cluster) Log(component string) string { return c.In("logs", component+".log") }

// Socket is containerd's socket; a unix socket by path works across network namespaces.
func (c Cluster) Socket() string { return c.In("containerd.sock") }

// Cgroup is the name of the cluster's own root in each cgroup hierarchy.
func (c Cluster) Cgroup() string { return "sscluster-" + c.Name }

// SeccompOnHost is <kubelet root>/seccomp as the host sees it.
func (c Cluster) SeccompOnHost() string { return c.In("kubelet", "seccomp") }

// SysctlFile notes the host's sysctls before the first cluster changed them.
func SysctlFile() string { return filepath.Join(Base, "sysctl.before") }

// Spec is what `up` decided; pid 1 reads it and `status` reports it.
type Spec struct {
	Name             string        `json:"name"`
	Port             int           `json:"port"`
	ControlPlaneOnly bool          `json:"controlPlaneOnly"`
	NetworkPolicy    bool          `json:"networkPolicy"`
	TimeLimit        time.Duration `json:"timeLimitNanoseconds"`
	Started          time.Time     `json:"started"`
	Cache            string        `json:"cache"`
}

// Bin is the directory of the third-party programs on the host.
func (s Spec) Bin() string { return filepath.Join(s.Cache, "bin") }

// Images is the directory of the packed test images on the host.
func (s Spec) Images() string { return filepath.Join(s.Cache, "images") }

// Cluster is the cluster this spec is of.
func (s Spec) Cluster() Cluster { return Cluster{s.Name} }

// Ends is when the cluster ends itself.
func (s Spec) Ends() time.Time { return s.Started.Add(s.TimeLimit) }

// Renewed is the same cluster with at least so much time left, and never less than it had.
func (s Spec) Renewed(limit time.Duration, now time.Time) Spec {
	s.TimeLimit = max(s.TimeLimit, now.Add(limit).Sub(s.Started).Round(time.Second))
	return s
}

// SameAs says whether two specs ask for the same kind of cluster.
func (s Spec) SameAs(o Spec) bool {
	return s.Name == o.Name && s.ControlPlaneOnly == o.ControlPlaneOnly && s.NetworkPolicy == o.NetworkPolicy
}

// Component is the state of one component as pid 1 last saw it.
type Component struct {
	Name   string    `json:"name"`
	PID    int       `json:"pid"` // inside the cluster's pid namespace
	Ended  bool      `json:"ended"`
	Result string    `json:"result,omitempty"` // "exit status 1", "signal: killed"
	At     time.Time `json:"at"`               // of the start or the end
}

// ReadSpec reads the spec file of a cluster.
func ReadSpec(c Cluster) (Spec, error) {
	var s Spec
	return s, readJSON(c.In("spec.json"), &s)
}

// ReadComponents reads the component states of a cluster; none yet is no error.
func ReadComponents(c Cluster) ([]Component, error) {
	var l []Component
	err := readJSON(c.In("components.json"), &l)
	if os.IsNotExist(err) {
		err = nil
	}
	return l, err
}

// WriteJSON writes a state file in one step, so that a reader never sees half of it.
func WriteJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
