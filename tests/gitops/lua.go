// Package gitops holds what GitOps tools are given to the rules of Argo CD, Flux and Kubernetes, by their own code.
//
// This file: a VM with the libraries that Argo CD gives to scripts from argocd-cm: base, package, table, and of os only time and
// date. No string, no math: a script that uses them passes Argo CD's own tests and fails in clusters.
// In: the ConfigMap that users install. It must not read the scripts from anywhere else.
package gitops

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/yaml"

	"screenshot-operator.io/tests/gitops/cases"
)

// Key is how argocd-cm names our kind.
const Key = "screenshot-operator.io_ScreenshotService"

type actions struct {
	Discovery   string `json:"discovery.lua"`
	Definitions []struct {
		Name   string `json:"name"`
		Script string `json:"action.lua"`
	} `json:"definitions"`
}

type luaVM struct {
	health  string
	actions actions
}

// newVM takes the scripts from argocd-cm.
func newVM(path string) (*luaVM, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var cm struct {
		Data map[string]string `json:"data"`
	}
	if err := yaml.Unmarshal(text, &cm); err != nil {
		return nil, err
	}
	vm := &luaVM{health: cm.Data["resource.customizations.health."+Key]}
	err = yaml.UnmarshalStrict([]byte(cm.Data["resource.customizations.actions."+Key]), &vm.actions)
	if err == nil && (vm.health == "" || vm.actions.Discovery == "" || len(vm.actions.Definitions) == 0) {
		err = fmt.Errorf("%s has not all the scripts", path)
	}
	return vm, err
}

func (vm *luaVM) Health(obj *unstructured.Unstructured) (cases.Health, error) {
	var health cases.Health
	err := run(vm.health, obj, &health)
	return health, err
}

func (vm *luaVM) Discover(obj *unstructured.Unstructured) ([]cases.Action, error) {
	var byName map[string]cases.Action
	if err := run(vm.actions.Discovery, obj, &byName); err != nil {
		return nil, err
	}
	var all []cases.Action
	for name, action := range byName {
		action.Name = name
		all = append(all, action)
	}
	return all, nil
}

func (vm *luaVM) Run(obj *unstructured.Unstructured, action string) (*unstructured.Unstructured, error) {
	for _, definition := range vm.actions.Definitions {
		if definition.Name != action {
			continue
		}
		var result map[string]any
		if err := run(definition.Script, obj, &result); err != nil {
			return nil, err
		}
		result, _ = restoreEmptyObjects(result, obj.Object).(map[string]any)
		text, err := json.Marshal(result)
		if err != nil {
			return nil, err
		}
		out := &unstructured.Unstructured{}
		return out, out.UnmarshalJSON(text)
	}
	return nil, fmt.Errorf("no action %q", action)
}

// run gives the script its `obj` and reads the table that it returns.
func run(script string, obj *unstructured.Unstructured, into any) error {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(ctx)
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, lua.OsLibName: openOs,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return err
		}
	}
	text, err := obj.MarshalJSON()
	if err != nil {
		return err
	}
	value, err := luajson.Decode(state, text)
	if err != nil {
		return err
	}
	state.SetGlobal("obj", value)
	if err := state.DoString(script); err != nil {
		return err
	}
	result := state.Get(-1)
	if result.Type() != lua.LTTable {
		return fmt.Errorf("the script returns a %s, not a table", result.Type())
	}
	text, err = luajson.Encode(result)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func openOs(state *lua.LState) int {
	count := lua.OpenOs(state)
	if library, ok := state.GetGlobal(lua.OsLibName).(*lua.LTable); ok {
		kept := map[string]bool{"time": true, "date": true}
		library.ForEach(func(name, _ lua.LValue) {
			if !kept[name.String()] {
				library.RawSet(name, lua.LNil)
			}
		})
	}
	return count
}

// restoreEmptyObjects undoes what Lua does to {}, which it cannot tell from []. Argo CD does the same.
func restoreEmptyObjects(result, before any) any {
	switch result := result.(type) {
	case map[string]any:
		was, _ := before.(map[string]any)
		for key, value := range result {
			result[key] = restoreEmptyObjects(value, was[key])
		}
	case []any:
		if _, object := before.(map[string]any); object && len(result) == 0 {
			return map[string]any{}
		}
		was, _ := before.([]any)
		for i := range min(len(result), len(was)) {
			result[i] = restoreEmptyObjects(result[i], was[i])
		}
	}
	return result
}
