package gitops

// What an API server does to a manifest before it stores it: prune, default, validate, with its own code and our CRD. A
// manifest that comes out changed, other than by defaults, would show as drift for ever.

import (
	"context"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"screenshot-operator.io/tests/gitops/cases"
)

func TestEverySampleSurvivesPruningAndDefaultingUnchanged(t *testing.T) {
	server := loadServer(t)
	samples := samples(t)
	if len(samples) < 3 {
		t.Fatalf("only %d samples", len(samples))
	}
	for path, sample := range samples {
		stored, problems := server.admit(sample)
		for _, problem := range problems {
			t.Errorf("%s: %s", path, problem)
		}
		if diff := missing("", sample.Object, stored.Object); len(diff) > 0 {
			t.Errorf("%s: differs from what is stored in %v", path, diff)
		}
		again, _ := server.admit(stored)
		if diff := cmp.Diff(stored.Object, again.Object); diff != "" {
			t.Errorf("%s: a second pass changes it:\n%s", path, diff)
		}
	}
}

func TestAMisspeltFieldAWrongValueAndABrokenRuleAreFound(t *testing.T) {
	server := loadServer(t)
	for spec, want := range map[string]string{
		`{"replica": 1}`:      "spec.replica: unknown",
		`{"replicas": 101}`:   "spec.replicas",
		`{"suspend": "true"}`: "spec.suspend",
		`{"network": {"egress": {"exceptions": [{"host": "a.b.svc", "ports": [80, 80], "reason": "r", "expires": "2030-01-01T00:00:00Z"}]}}}`: "Duplicate value: 80",
		`{"auth": {"rotation": {"periodDays": 1, "overlapHours": 24}}}`:                                                                       "overlapHours",
	} {
		obj := &unstructured.Unstructured{}
		text := `{"apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService", "metadata": {"name": "shots"}, "spec": ` + spec + `}`
		if err := obj.UnmarshalJSON([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, problems := server.admit(obj); !strings.Contains(strings.Join(problems, "\n"), want) {
			t.Errorf("%s: %q", spec, problems)
		}
	}
}

// samples are all ScreenshotServices that a user may copy, and the objects that Argo CD's scripts are tested with.
func samples(t *testing.T) map[string]*unstructured.Unstructured {
	t.Helper()
	found := map[string]*unstructured.Unstructured{}
	for _, dir := range []string{"examples", "gitops"} {
		err := filepath.WalkDir(cases.Root(dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".yaml" || strings.HasSuffix(path, "_test.yaml") {
				return err
			}
			for _, document := range documents(t, path) {
				if document.GetKind() == "ScreenshotService" {
					found[path+" "+document.GetName()] = document
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// server is the part of an API server that handles our resource.
type server struct {
	structural *schema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator
}

func loadServer(t *testing.T) *server {
	t.Helper()
	var crd apiextensionsv1.CustomResourceDefinition
	for _, document := range documents(t, cases.Root("crds/screenshot-operator.io_screenshotservices.yaml")) {
		strict(t, document, &crd)
	}
	props := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, props, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := schema.NewStructural(props)
	if err != nil {
		t.Fatal(err)
	}
	validator, _, err := validation.NewSchemaValidator(props)
	if err != nil {
		t.Fatal(err)
	}
	return &server{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
}

// admit gives what would be stored, and what is wrong with the manifest.
func (s *server) admit(manifest *unstructured.Unstructured) (*unstructured.Unstructured, []string) {
	var problems []string
	obj := manifest.DeepCopy()
	options := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, path := range pruning.PruneWithOptions(obj.Object, s.structural, true, options) {
		problems = append(problems, path+": unknown field")
	}
	defaulting.Default(obj.Object, s.structural)
	errors := validation.ValidateCustomResource(field.NewPath(""), obj.Object, s.schema)
	errors = append(errors, listtype.ValidateListSetsAndMaps(field.NewPath(""), s.structural, obj.Object)...)
	byRule, _ := s.rules.Validate(context.Background(), field.NewPath(""), s.structural, obj.Object, nil, celconfig.RuntimeCELCostBudget)
	for _, problem := range append(errors, byRule...) {
		problems = append(problems, problem.Error())
	}
	return obj, problems
}

// missing lists what the manifest says and the stored object does not.
func missing(path string, manifest, stored any) []string {
	was, object := manifest.(map[string]any)
	if !object {
		if cmp.Equal(manifest, stored) {
			return nil
		}
		return []string{path}
	}
	is, _ := stored.(map[string]any)
	var all []string
	for key, value := range was {
		all = append(all, missing(path+"."+key, value, is[key])...)
	}
	return all
}
