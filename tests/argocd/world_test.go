package main

// What the scenario asks of the cluster and of Argo CD, in its own words.

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"screenshot-operator.io/tests/gitops/cases"
)

var (
	applications = schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "applications"}
	services     = schema.GroupVersionResource{Group: "screenshot-operator.io", Version: "v1alpha1", Resource: "screenshotservices"}
	deployments  = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	kubeServices = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	configMaps   = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	pods         = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
)

// application is the part of an Application that this is about.
type application struct {
	sync, health, message string
	syncs                 int    // so many times has it changed the cluster
	operation             string // phase and message of the last one
	resources             string // those that are not Synced
}

func (a application) String() string {
	return fmt.Sprintf("%s, %s; last sync: %s; %s %s", a.sync, a.health, a.operation, a.message, a.resources)
}

func (r *rig) application(t *testing.T, name string) application {
	t.Helper()
	obj, err := r.kube.Resource(applications).Namespace("argocd").Get(context.Background(), name, metav1.GetOptions{})
	must(t, err)
	return applicationOf(obj)
}

func applicationOf(obj *unstructured.Unstructured) application {
	text := func(fields ...string) string {
		value, _, _ := unstructured.NestedString(obj.Object, append([]string{"status"}, fields...)...)
		return value
	}
	history, _, _ := unstructured.NestedSlice(obj.Object, "status", "history")
	a := application{
		sync: text("sync", "status"), health: text("health", "status"), syncs: len(history),
		operation: text("operationState", "phase") + " " + text("operationState", "message"),
	}
	conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
	for _, condition := range conditions {
		a.message += fmt.Sprint(condition)
	}
	resources, _, _ := unstructured.NestedSlice(obj.Object, "status", "resources")
	for _, resource := range resources {
		if r, _ := resource.(map[string]any); r["status"] != "Synced" {
			a.resources += fmt.Sprint(r)
		}
	}
	return a
}

// becomes waits until the Application is in the state.
func (r *rig) becomes(t *testing.T, name, sync, health string, limit time.Duration) {
	t.Helper()
	eventually(t, limit, fmt.Sprintf("%s is %s and %s", name, sync, health), func() (bool, string) {
		a := r.application(t, name)
		return a.sync == sync && a.health == health, a.String()
	})
}

// refresh makes Argo CD compare git and cluster anew, and waits until it has. Its controller lost a request once that came
// while it compared for others' sake: who is not heard within ten seconds asks again, as a person would.
func (r *rig) refresh(t *testing.T, name string) {
	t.Helper()
	const annotation = "argocd.argoproj.io/refresh"
	ask := func(value string) {
		r.patch(t, applications, "argocd", name, `{"metadata": {"annotations": {"`+annotation+`": `+value+`}}}`)
	}
	ask(`"hard"`)
	asked := time.Now()
	eventually(t, 60*time.Second, name+" is compared", func() (bool, string) {
		obj, err := r.kube.Resource(applications).Namespace("argocd").Get(context.Background(), name, metav1.GetOptions{})
		must(t, err)
		_, waits := obj.GetAnnotations()[annotation]
		if waits && time.Since(asked) > 10*time.Second {
			t.Logf("%s: asked again to compare", name)
			ask("null")
			ask(`"hard"`)
			asked = time.Now()
		}
		return !waits, applicationOf(obj).String()
	})
}

func (r *rig) patch(t *testing.T, kind schema.GroupVersionResource, namespace, name, patch string) {
	t.Helper()
	_, err := r.kube.Resource(kind).Namespace(namespace).Patch(context.Background(), name, types.MergePatchType, []byte(patch),
		metav1.PatchOptions{FieldManager: "somebody"})
	must(t, err)
}

func (r *rig) get(t *testing.T, kind schema.GroupVersionResource, namespace, name string) *unstructured.Unstructured {
	t.Helper()
	obj, err := r.kube.Resource(kind).Namespace(namespace).Get(context.Background(), name, metav1.GetOptions{})
	must(t, err)
	return obj
}

func (r *rig) podNames(t *testing.T, namespace, selector string) []string {
	t.Helper()
	list, err := r.kube.Resource(pods).Namespace(namespace).List(context.Background(), metav1.ListOptions{LabelSelector: selector})
	must(t, err)
	var names []string
	for _, pod := range list.Items {
		names = append(names, pod.GetName())
	}
	slices.Sort(names)
	return names
}

// generations are those of the ScreenshotServices of a namespace, by name: 1 until a spec is written again.
func (r *rig) generations(t *testing.T, namespace string) map[string]int64 {
	t.Helper()
	list, err := r.kube.Resource(services).Namespace(namespace).List(context.Background(), metav1.ListOptions{})
	must(t, err)
	found := map[string]int64{}
	for _, service := range list.Items {
		found[service.GetName()] = service.GetGeneration()
	}
	if len(found) == 0 {
		t.Fatalf("no service in %s", namespace)
	}
	return found
}

// field is a value in an object, as text; nothing is "".
func field(obj *unstructured.Unstructured, path string) string {
	value, found, _ := unstructured.NestedFieldNoCopy(obj.Object, strings.Split(path, ".")...)
	if !found {
		return ""
	}
	return fmt.Sprint(value)
}

// act runs an action on a service, as a click in Argo CD's user interface does.
func (r *rig) act(t *testing.T, app, namespace, name, action string) {
	t.Helper()
	body, err := json.Marshal(map[string]string{
		"name": app, "namespace": namespace, "resourceName": name, "group": services.Group, "version": services.Version,
		"kind": "ScreenshotService", "action": action,
	})
	must(t, err)
	r.api(t, "POST", "/api/v1/applications/"+app+"/resource/actions/v2", string(body))
}

// offered are the actions that can be run on a service now.
func (r *rig) offered(t *testing.T, app, namespace, name string) []string {
	t.Helper()
	query := url.Values{"namespace": {namespace}, "resourceName": {name}, "group": {services.Group}, "version": {services.Version}, "kind": {"ScreenshotService"}}
	var answer struct {
		Actions []struct {
			Name     string `json:"name"`
			Disabled bool   `json:"disabled"`
		} `json:"actions"`
	}
	must(t, json.Unmarshal([]byte(r.api(t, "GET", "/api/v1/applications/"+app+"/resource/actions?"+query.Encode(), "")), &answer))
	var names []string
	for _, action := range answer.Actions {
		if !action.Disabled {
			names = append(names, action.Name)
		}
	}
	slices.Sort(names)
	return names
}

// record notes every state of an Application until it is stopped.
func (r *rig) record(t *testing.T, name string) (stop func() []string) {
	t.Helper()
	return r.recordBy(t, name, func(app *unstructured.Unstructured) string {
		a := applicationOf(app)
		return a.sync + " " + a.health
	})
}

// recordBy notes what a look at an Application says, whenever it says another thing, until it is stopped.
func (r *rig) recordBy(t *testing.T, name string, look func(*unstructured.Unstructured) string) (stop func() []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	watcher, err := r.kube.Resource(applications).Namespace("argocd").Watch(ctx, metav1.SingleObject(metav1.ObjectMeta{Name: name}))
	must(t, err)
	var mutex sync.Mutex
	var states []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range watcher.ResultChan() {
			obj, ok := event.Object.(*unstructured.Unstructured)
			if !ok {
				continue
			}
			state := look(obj)
			mutex.Lock()
			if len(states) == 0 || states[len(states)-1] != state {
				states = append(states, state)
			}
			mutex.Unlock()
		}
	}()
	return func() []string {
		time.Sleep(500 * time.Millisecond) // what happened last has to arrive
		watcher.Stop()
		cancel()
		<-done
		mutex.Lock()
		defer mutex.Unlock()
		return states
	}
}

// example is one of ours, with this test's repository.
func example(t *testing.T, path string) string {
	t.Helper()
	text := read(t, path)
	const placeholder = "https://git.example.com/platform/screenshots.git"
	if !strings.Contains(text, placeholder) {
		t.Fatalf("%s does not name %s", path, placeholder)
	}
	return strings.ReplaceAll(text, placeholder, repository)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(cases.Root(path))
	must(t, err)
	return string(text)
}

// directory is all files below a path, as the repository has them.
func directory(t *testing.T, path string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(cases.Root(path), func(name string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(cases.Root("."), name)
		files[relative] = read(t, relative)
		return err
	}))
	return files
}

// likeFixture holds the objects that the scripts are tested with to what the operator really writes.
func likeFixture(t *testing.T, path string, live *unstructured.Unstructured) {
	t.Helper()
	fixture := cases.Object(t, cases.Customization(path))
	want, got := conditions(fixture), conditions(live)
	if !slices.Equal(want, got) {
		t.Errorf("%s has the conditions\n%s\nand the operator writes\n%s", path, strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	want, got = fields("status", fixture.Object["status"]), fields("status", live.Object["status"])
	for _, field := range got {
		if !slices.Contains(want, field) && !strings.HasPrefix(field, "status.auth.") {
			t.Errorf("%s lacks %s", path, field)
		}
	}
}

func conditions(obj *unstructured.Unstructured) []string {
	list, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
	var all []string
	for _, c := range list {
		c, _ := c.(map[string]any)
		all = append(all, fmt.Sprintf("%v %v %v: %v", c["type"], c["status"], c["reason"], c["message"]))
	}
	slices.Sort(all)
	return all
}

func fields(path string, value any) []string {
	object, ok := value.(map[string]any)
	if !ok {
		return []string{path}
	}
	var all []string
	for key, value := range object {
		all = append(all, fields(path+"."+key, value)...)
	}
	return all
}
