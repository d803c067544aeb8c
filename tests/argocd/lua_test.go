package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"screenshot-operator.io/tests/gitops/cases"
)

// argoVM is Argo CD's own, as its servers use it: without the standard libraries.
type argoVM struct{ lua.VM }

func installedVM(t *testing.T) argoVM {
	t.Helper()
	text, err := os.ReadFile(cases.Root("gitops/argocd/argocd-cm.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var cm struct {
		Data map[string]string `json:"data"`
	}
	if err := yaml.Unmarshal(text, &cm); err != nil {
		t.Fatal(err)
	}
	const key = "screenshot-operator.io_ScreenshotService"
	return argoVM{lua.VM{ResourceOverrides: map[string]v1alpha1.ResourceOverride{
		"screenshot-operator.io/ScreenshotService": {
			HealthLua: cm.Data["resource.customizations.health."+key],
			Actions:   cm.Data["resource.customizations.actions."+key],
		},
	}}}
}

func (vm argoVM) Health(obj *unstructured.Unstructured) (cases.Health, error) {
	health, err := lua.ResourceHealthOverrides(vm.ResourceOverrides).GetResourceHealth(obj)
	if err != nil || health == nil {
		return cases.Health{}, fmt.Errorf("no health: %w", err)
	}
	return cases.Health{Status: string(health.Status), Message: health.Message}, nil
}

func (vm argoVM) Discover(obj *unstructured.Unstructured) ([]cases.Action, error) {
	scripts, err := vm.GetResourceActionDiscovery(obj)
	if err != nil {
		return nil, err
	}
	offered, err := vm.ExecuteResourceActionDiscovery(obj, scripts)
	var all []cases.Action
	for _, action := range offered {
		all = append(all, cases.Action{
			Name: action.Name, Disabled: action.Disabled, DisplayName: action.DisplayName, IconClass: action.IconClass,
		})
	}
	return all, err
}

func (vm argoVM) Run(obj *unstructured.Unstructured, name string) (*unstructured.Unstructured, error) {
	action, err := vm.GetResourceAction(obj, name)
	if err != nil {
		return nil, err
	}
	changed, err := vm.ExecuteResourceAction(obj, action.ActionLua, nil)
	if err != nil {
		return nil, err
	}
	if len(changed) != 1 || changed[0].K8SOperation != lua.PatchOperation {
		return nil, fmt.Errorf("%s changes %v", name, changed)
	}
	text, err := changed[0].UnstructuredObj.MarshalJSON()
	if err != nil {
		return nil, err
	}
	result := &unstructured.Unstructured{} // once more through JSON: Lua's numbers are all floats
	return result, result.UnmarshalJSON(text)
}

func TestHealthIsWhatTheCasesSayOnArgoCDsOwnVM(t *testing.T) { cases.CheckHealth(t, installedVM(t)) }

func TestActionsAreWhatTheCasesSayOnArgoCDsOwnVM(t *testing.T) { cases.CheckActions(t, installedVM(t)) }
