package gitops

// Argo CD, Flux and everything else that follows kstatus give one verdict. The three are asked about every status that
// the operator can write, and many that it never will.

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"screenshot-operator.io/tests/gitops/cases"
)

// A verdict of kstatus in Argo CD's words; a service that rests as asked is where it should be.
var words = map[status.Status][]string{
	status.CurrentStatus:    {"Healthy", "Suspended"},
	status.InProgressStatus: {"Progressing"},
	status.FailedStatus:     {"Degraded"},
}

func TestArgoFluxAndKstatusAgreeOnEveryStatus(t *testing.T) {
	vm, flux := installed(t), fluxEvaluator(t)
	seen := map[string]int{}
	for _, c := range statuses() {
		health, err := vm.Health(c)
		if err != nil {
			t.Fatal(err)
		}
		kstatus, err := status.Compute(c)
		if err != nil {
			t.Fatal(err)
		}
		byFlux, err := flux.Evaluate(context.Background(), c)
		if err != nil {
			t.Fatalf("%v: %v", c.Object["status"], err)
		}
		if kstatus.Status != byFlux.Status {
			t.Errorf("kstatus %s, Flux %s: %v", kstatus.Status, byFlux.Status, c.Object["status"])
		}
		if !slices.Contains(words[kstatus.Status], health.Status) {
			t.Errorf("kstatus %s, Argo CD %s: %v", kstatus.Status, health.Status, c.Object["status"])
		}
		if health.Message == "" {
			t.Errorf("no message: %v", c.Object["status"])
		}
		seen[health.Status]++
	}
	for _, word := range []string{"Healthy", "Suspended", "Progressing", "Degraded"} {
		if seen[word] == 0 {
			t.Errorf("no status is %s", word)
		}
	}
}

// kstatus takes an object without any condition for done. A ScreenshotService always has Ready once it was seen, so for
// one without it nobody may say that it is done.
func TestAStatusWithoutReadyIsNeverDone(t *testing.T) {
	for _, c := range []map[string]any{
		nil, {}, {"observedGeneration": int64(2)}, {"observedGeneration": int64(2), "conditions": []any{}},
	} {
		obj := object(c)
		health, err := installed(t).Health(obj)
		if err != nil || health.Status != "Progressing" {
			t.Errorf("%v: Argo CD says %v, %v", c, health, err)
		}
		if c == nil {
			continue // the schema's default makes a status
		}
		if flux, err := fluxEvaluator(t).Evaluate(context.Background(), obj); err != nil || flux.Status != status.InProgressStatus {
			t.Errorf("%v: Flux says %v, %v", c, flux, err)
		}
	}
}

// statuses is the product of all that a verdict may depend on. Reconciling and Stalled are never both true.
func statuses() []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, observed := range []int64{-1, 1, 2, 3} {
		for _, ready := range []string{"True", "False", "Unknown"} {
			for _, trouble := range []string{"", "Reconciling", "Stalled"} {
				for _, holds := range []string{"True", "False", "Unknown"} {
					for _, suspended := range []string{"", "True", "False"} {
						for _, readyLast := range []bool{false, true} {
							all = append(all, object(statusOf(observed, ready, trouble, holds, suspended, readyLast)))
						}
					}
				}
			}
		}
	}
	return all
}

func statusOf(observed int64, ready, trouble, holds, suspended string, readyLast bool) map[string]any {
	var conditions []any
	add := func(kind, value string) {
		if kind != "" && value != "" {
			conditions = append(conditions, map[string]any{
				"type": kind, "status": value, "reason": "R", "message": fmt.Sprintf("%s is %s", kind, value),
			})
		}
	}
	if !readyLast {
		add("Ready", ready)
	}
	add(trouble, holds)
	add("Available", "False")
	add("Suspended", suspended)
	if readyLast {
		add("Ready", ready)
	}
	return map[string]any{"observedGeneration": observed, "conditions": conditions}
}

func object(content map[string]any) *unstructured.Unstructured {
	obj := map[string]any{
		"apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService",
		"metadata": map[string]any{"name": "shots", "namespace": "web", "generation": int64(2)},
		"spec":     map[string]any{},
	}
	if content != nil {
		obj["status"] = content
	}
	return &unstructured.Unstructured{Object: obj}
}

// fluxEvaluator takes the expressions from the example that users copy.
func fluxEvaluator(t *testing.T) *cel.StatusEvaluator {
	t.Helper()
	for _, document := range documents(t, cases.Root("gitops/flux/services.yaml")) {
		if document.GetKind() != kustomizev1.KustomizationKind {
			continue
		}
		var kustomization kustomizev1.Kustomization
		strict(t, document, &kustomization)
		for _, check := range kustomization.Spec.HealthCheckExprs {
			if check.APIVersion == "screenshot-operator.io/v1alpha1" && check.Kind == "ScreenshotService" {
				evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
				if err != nil {
					t.Fatal(err)
				}
				return evaluator
			}
		}
	}
	t.Fatal("gitops/flux/services.yaml has no health expressions for ScreenshotService")
	return nil
}
