package config

import (
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestEveryTemplateHasATargetAndParses(t *testing.T) {
	entries, err := fs.ReadDir(files, "files")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(targets) {
		t.Fatalf("%d templates, %d targets", len(entries), len(targets))
	}
	v := Values{Dir: "/d", Cgroup: "cg", KubeletRoot: "/var/lib/kubelet", Socket: "/d/s", PodCIDR: "10.244.0.0/16", NodePodCIDR: "10.244.0.0/24", DNSIP: "10.96.0.10"}
	for name := range targets {
		text, err := Render(name, v)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "{{") || strings.Contains(string(text), "<no value>") {
			t.Errorf("%s: not fully rendered", name)
		}
		switch {
		case strings.HasSuffix(name, ".yaml"):
			for _, doc := range strings.Split(string(text), "\n---\n") {
				var m map[string]any
				if err := yaml.UnmarshalStrict([]byte(doc), &m); err != nil || m["kind"] == nil {
					t.Errorf("%s: %v, kind %v", name, err, m["kind"])
				}
			}
		case strings.HasSuffix(name, ".conflist"):
			if !json.Valid(text) {
				t.Errorf("%s is not JSON", name)
			}
		}
	}
}

func TestTheKubeletLimitsPidsAndReadsSecretsEverySecond(t *testing.T) {
	text, err := Render("kubelet.yaml", Values{})
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := yaml.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	if m["podPidsLimit"] != float64(1024) || m["syncFrequency"] != "1s" {
		t.Errorf("podPidsLimit %v, syncFrequency %v", m["podPidsLimit"], m["syncFrequency"])
	}
}
