package gitops

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"screenshot-operator.io/tests/gitops/cases"
)

func TestTheFluxExamplesAreOfFluxsTypesAndHaveNoUnknownField(t *testing.T) {
	types := map[string]func() any{
		helmv2.HelmReleaseKind:        func() any { return &helmv2.HelmRelease{} },
		kustomizev1.KustomizationKind: func() any { return &kustomizev1.Kustomization{} },
		sourcev1.GitRepositoryKind:    func() any { return &sourcev1.GitRepository{} },
		sourcev1.OCIRepositoryKind:    func() any { return &sourcev1.OCIRepository{} },
		"Namespace":                   func() any { return &map[string]any{} },
	}
	files, _ := filepath.Glob(cases.Root("gitops/flux/*.yaml"))
	if len(files) == 0 {
		t.Fatal("no examples")
	}
	seen := map[string]bool{}
	for _, file := range files {
		for _, document := range documents(t, file) {
			into, known := types[document.GetKind()]
			if !known {
				t.Fatalf("%s: %s", file, document.GetKind())
			}
			strict(t, document, into())
			seen[document.GetAPIVersion()] = true
		}
	}
	for _, version := range []string{helmv2.GroupVersion.String(), kustomizev1.GroupVersion.String(), sourcev1.GroupVersion.String()} {
		if !seen[version] {
			t.Errorf("no example of %s", version)
		}
	}
}

// documents reads a file of several manifests. A key that stands twice is an error.
func documents(t *testing.T, path string) []*unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []*unstructured.Unstructured
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		json, err := yaml.YAMLToJSONStrict(document)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if string(json) == "null" {
			continue
		}
		obj := &unstructured.Unstructured{}
		if err := obj.UnmarshalJSON(json); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, obj)
	}
}

func strict(t *testing.T, document *unstructured.Unstructured, into any) {
	t.Helper()
	json, err := document.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(json, into); err != nil {
		t.Fatalf("%s %s: %v", document.GetKind(), document.GetName(), err)
	}
}
