// Package cases holds our scripts to the cases that lie beside them, in the form of Argo CD's own repository.
// In: gitops/argocd of this checkout, and a [VM]. Out: failed tests. It must not know which VM it is.
package cases

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Health is what a tool says of an object, in Argo CD's words.
type Health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// Action is what a user is offered.
type Action struct {
	Name        string `json:"name"`
	Disabled    bool   `json:"disabled"`
	DisplayName string `json:"displayName"`
	IconClass   string `json:"iconClass"`
}

// VM runs the scripts as a user has installed them.
type VM interface {
	Health(obj *unstructured.Unstructured) (Health, error)
	Discover(obj *unstructured.Unstructured) ([]Action, error)
	Run(obj *unstructured.Unstructured, action string) (*unstructured.Unstructured, error)
}

type healthCases struct {
	Tests []struct {
		InputPath    string `json:"inputPath"`
		HealthStatus Health `json:"healthStatus"`
	} `json:"tests"`
}

type actionCases struct {
	DiscoveryTests []struct {
		InputPath string   `json:"inputPath"`
		Result    []Action `json:"result"`
	} `json:"discoveryTests"`
	ActionTests []struct {
		Action             string `json:"action"`
		InputPath          string `json:"inputPath"`
		ExpectedOutputPath string `json:"expectedOutputPath"`
	} `json:"actionTests"`
}

// CheckHealth holds health.lua to health_test.yaml.
func CheckHealth(t *testing.T, vm VM) {
	t.Helper()
	var cases healthCases
	Read(t, Customization("health_test.yaml"), &cases)
	if len(cases.Tests) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases.Tests {
		got, err := vm.Health(Object(t, Customization(c.InputPath)))
		if err != nil {
			t.Fatalf("%s: %v", c.InputPath, err)
		}
		if diff := cmp.Diff(c.HealthStatus, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.InputPath, diff)
		}
	}
}

// CheckActions holds the actions to action_test.yaml.
func CheckActions(t *testing.T, vm VM) {
	t.Helper()
	var cases actionCases
	Read(t, Customization("actions/action_test.yaml"), &cases)
	if len(cases.DiscoveryTests) == 0 || len(cases.ActionTests) == 0 {
		t.Fatal("no cases")
	}
	byName := cmpopts.SortSlices(func(a, b Action) bool { return a.Name < b.Name })
	for _, c := range cases.DiscoveryTests {
		got, err := vm.Discover(Object(t, Customization("actions/"+c.InputPath)))
		if err != nil {
			t.Fatalf("%s: %v", c.InputPath, err)
		}
		if diff := cmp.Diff(c.Result, got, byName); diff != "" {
			t.Errorf("offered for %s (-want +got):\n%s", c.InputPath, diff)
		}
	}
	for _, c := range cases.ActionTests {
		got, err := vm.Run(Object(t, Customization("actions/"+c.InputPath)), c.Action)
		if err != nil {
			t.Fatalf("%s: %v", c.Action, err)
		}
		want := Object(t, Customization("actions/"+c.ExpectedOutputPath))
		if diff := cmp.Diff(want.Object, got.Object); diff != "" {
			t.Errorf("%s of %s (-want +got):\n%s", c.Action, c.InputPath, diff)
		}
	}
}

// Root is a path of this checkout. Tests run in their package's directory, two below the root.
func Root(path string) string { return filepath.Join("..", "..", path) }

// Customization is a path below the directory that Argo CD would have of us.
func Customization(path string) string {
	return Root("gitops/argocd/resource_customizations/screenshot-operator.io/ScreenshotService/" + path)
}

// Object reads one manifest; whole numbers are integers, as from an API server.
func Object(t *testing.T, path string) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	json, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if err := obj.UnmarshalJSON(json); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return obj
}

// Read reads a YAML file of which every key is known.
func Read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
