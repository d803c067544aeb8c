package gitops

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"screenshot-operator.io/tests/gitops/cases"
)

func installed(t *testing.T) *luaVM {
	t.Helper()
	vm, err := newVM(cases.Root("gitops/argocd/argocd-cm.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func TestHealthIsWhatTheCasesSay(t *testing.T) { cases.CheckHealth(t, installed(t)) }

func TestActionsAreWhatTheCasesSay(t *testing.T) { cases.CheckActions(t, installed(t)) }

func TestEveryActionIsOfferedAndEveryOfferIsAnAction(t *testing.T) {
	vm := installed(t)
	offered, err := vm.Discover(cases.Object(t, cases.Customization("testdata/healthy.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	if len(offered) != len(vm.actions.Definitions) {
		t.Errorf("%d offers, %d actions", len(offered), len(vm.actions.Definitions))
	}
	for _, action := range offered {
		if _, err := vm.Run(cases.Object(t, cases.Customization("testdata/healthy.yaml")), action.Name); err != nil {
			t.Error(err)
		}
	}
}

func TestAScriptThatNeedsLibrariesThatClustersLackFailsHere(t *testing.T) {
	for _, script := range []string{"string.lower('A')", "('A'):lower()", "math.floor(1.5)", "os.getenv('HOME')", "io.open('x')"} {
		err := run("local x = "+script+"\nreturn {}", &unstructured.Unstructured{Object: map[string]any{}}, &struct{}{})
		if err == nil || !strings.Contains(err.Error(), "attempt to") {
			t.Errorf("%s: %v", script, err)
		}
	}
}
