package host

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

// Status is what `status` reports.
type Status struct {
	Up            bool               `json:"up"`
	Name          string             `json:"name"`
	PID           int                `json:"pid,omitempty"` // of pid 1, on the host
	Spec          *layout.Spec       `json:"spec,omitempty"`
	Ends          time.Time          `json:"ends,omitzero"` // by the time limit
	StateDir      string             `json:"stateDir"`
	Kubeconfig    string             `json:"kubeconfig"`
	BinDir        string             `json:"binDir,omitempty"`
	Socket        string             `json:"containerdSocket"`
	KubeletRoot   string             `json:"kubeletRoot"`   // as hostPath volumes see it
	SeccompDir    string             `json:"seccompDir"`    // as hostPath volumes see it
	SeccompOnHost string             `json:"seccompOnHost"` // the same directory on the host
	Components    []layout.Component `json:"components,omitempty"`
	Processes     int                `json:"processes"`
	MemoryBytes   int64              `json:"memoryBytes"` // proportional set sizes
}

// GetStatus looks at a cluster; one that is not there is no error.
func GetStatus(name string) (Status, error) {
	c := layout.Cluster{Name: name}
	s := Status{
		Name: name, StateDir: c.Dir(), Kubeconfig: c.Kubeconfig(), Socket: c.Socket(),
		KubeletRoot: layout.KubeletRoot, SeccompDir: layout.KubeletRoot + "/seccomp", SeccompOnHost: c.SeccompOnHost(),
	}
	spec, err := layout.ReadSpec(c)
	if os.IsNotExist(err) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.Spec, s.BinDir, s.Ends = &spec, spec.Bin(), spec.Ends()
	if s.Components, err = layout.ReadComponents(c); err != nil {
		return s, err
	}
	if s.PID, err = findPID1(name); err != nil || s.PID == 0 {
		return s, err
	}
	m := members(s.PID)
	s.Up, s.Processes, s.MemoryBytes = true, len(m), memory(m)
	return s, nil
}

// Print writes the status for people, or as JSON.
func (s Status) Print(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	switch {
	case s.Spec == nil:
		_, err := fmt.Fprintf(w, "cluster %s: none\n", s.Name)
		return err
	case !s.Up:
		_, err := fmt.Fprintf(w, "cluster %s: ended; logs in %s/logs\n", s.Name, s.StateDir)
		return err
	}
	fmt.Fprintf(w, "cluster %s: up for %v, ends %s\n", s.Name, time.Since(s.Spec.Started).Round(time.Second), s.Ends.Format(time.TimeOnly))
	fmt.Fprintf(w, "  kubeconfig   %s\n  seccomp dir  %s (in pods' hostPath: %s)\n", s.Kubeconfig, s.SeccompOnHost, s.SeccompDir)
	fmt.Fprintf(w, "  processes    %d, %d MB (PSS)\n", s.Processes, s.MemoryBytes>>20)
	for _, c := range s.Components {
		state := "running"
		if c.Ended {
			state = "ENDED, " + c.Result
		}
		fmt.Fprintf(w, "  %-24s %s\n", c.Name, state)
	}
	return nil
}

// Load imports an image archive (docker-archive or oci-archive) for the kubelet to use.
func Load(ctx context.Context, name, tar string, out io.Writer) error {
	spec, err := layout.ReadSpec(layout.Cluster{Name: name})
	if err != nil {
		return fmt.Errorf("cluster %q is not up: %w", name, err)
	}
	if spec.ControlPlaneOnly {
		return fmt.Errorf("cluster %q has a control plane only: there is no node to load an image into", name)
	}
	if _, err := os.Stat(tar); err != nil {
		return err
	}
	said, err := ctr(ctx, spec, "-n", "k8s.io", "images", "import", tar)
	if err != nil {
		return fmt.Errorf("load %s: %w; see %s", tar, err, spec.Cluster().Log("containerd"))
	}
	named := false
	for line := range strings.Lines(string(said)) {
		// The rest is progress. ctr writes a name's hyphens as spaces, so a name can have several fields.
		if shown, ok := strings.CutSuffix(strings.TrimSpace(line), "saved"); ok {
			named = true
			fmt.Fprintln(out, "loaded", strings.Join(strings.Fields(shown), "-"))
		}
	}
	if !named {
		return fmt.Errorf("load %s: the archive gives its image no name", tar)
	}
	return nil
}

// ctr runs containerd's client. A unix socket is reached by its path, whatever network namespace it is in.
func ctr(ctx context.Context, spec layout.Spec, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, filepath.Join(spec.Bin(), "ctr"), append([]string{"-a", spec.Cluster().Socket()}, args...)...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// Logs prints a component's log, or lists the logs there are.
func Logs(name, component string, out io.Writer) error {
	c := layout.Cluster{Name: name}
	if component == "" {
		l, err := filepath.Glob(c.Log("*"))
		if err != nil || len(l) == 0 {
			return cmp.Or(err, fmt.Errorf("cluster %q has no logs", name))
		}
		for _, p := range l {
			fmt.Fprintln(out, strings.TrimSuffix(filepath.Base(p), ".log"))
		}
		return nil
	}
	f, err := os.Open(c.Log(filepath.Base(component)))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(out, f)
	return err
}
