package main

// The operator and its services, run by Argo CD from git, in a real cluster.

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const (
	operatorApp = "screenshot-operator"
	servicesApp = "screenshot-services"
	demo        = "shots-demo"
	demoPods    = "app.kubernetes.io/instance=demo"
)

func TestArgoCDRunsTheOperatorAndItsServices(t *testing.T) {
	r := newRig(t)
	files := directory(t, "charts/screenshot-operator")
	files["namespaces/namespaces.yaml"] = read(t, "gitops/kustomize/base/namespaces.yaml")
	files["services/demo.yaml"] = read(t, "examples/demo.yaml")
	files["services/minimal.yaml"] = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shots-web}\n---\n" + read(t, "examples/minimal.yaml")
	maps.Copy(files, samples(t))
	r.commit(t, files)

	var hour *hour
	for i, step := range []struct {
		rule string
		test func(*testing.T, *rig)
	}{
		{"the operator's Application becomes Synced and Healthy", operatorBecomesHealthy},
		{"the services' Application is Healthy when every service is Ready", servicesBecomeHealthy},
		{"an idle hour begins, for one of the services", func(t *testing.T, r *rig) { hour = r.beginHour(t) }},
		{"a token rotation shows neither as drift nor as ill health", rotationIsQuiet},
		{"a field that git names is put back", editIsHealed},
		{"the action restart replaces the pods and shows no drift", restartWorks},
		{"the actions suspend and resume end and start the pods", suspendAndResumeWork},
		{"an hour's worth of reconciles changes nothing that Argo CD sees", func(t *testing.T, r *rig) { hour.end(t) }},
		{"the operator's own objects are put back", deletionIsHealed},
		{"what leaves git leaves the cluster, children included", pruneRemoves},
		{"samples show no drift in any diff mode", samplesHaveNoDrift},
	} {
		if !t.Run(step.rule, func(t *testing.T) { step.test(t, r) }) && i < 3 {
			t.FailNow() // the rest needs them
		}
	}
}

func operatorBecomesHealthy(t *testing.T, r *rig) {
	r.apply(t, example(t, "gitops/argocd/appproject.yaml"))
	r.apply(t, example(t, "gitops/argocd/application-operator.yaml"))
	r.becomes(t, operatorApp, "Synced", "Healthy", 90*time.Second)
}

func servicesBecomeHealthy(t *testing.T, r *rig) {
	stop := r.record(t, operatorApp)
	r.apply(t, example(t, "gitops/argocd/application-services.yaml"))
	r.becomes(t, servicesApp, "Synced", "Healthy", 120*time.Second)
	for _, service := range []string{demo + "/demo", "shots-web/shots"} {
		namespace, name, _ := strings.Cut(service, "/")
		if ready := condition(r.get(t, services, namespace, name), "Ready"); ready != "True" {
			t.Errorf("Healthy, and Ready of %s is %q", service, ready)
		}
	}
	onlyState(t, stop(), "Synced Healthy")
	likeFixture(t, "testdata/healthy.yaml", r.get(t, services, "shots-web", "shots"))
}

func rotationIsQuiet(t *testing.T, r *rig) {
	before := r.get(t, services, demo, "demo")
	syncs := r.application(t, servicesApp).syncs
	stop := r.record(t, servicesApp)
	r.act(t, servicesApp, demo, "demo", "rotate")
	nonce := field(r.get(t, services, demo, "demo"), "spec.auth.rotation.nonce")
	if want := fmt.Sprintf("argocd-%d", before.GetGeneration()); nonce != want {
		t.Fatalf("the action wrote %q, not %q", nonce, want)
	}
	eventually(t, 90*time.Second, "the token is another", func() (bool, string) {
		now := r.get(t, services, demo, "demo")
		handled := field(now, "status.auth.lastHandledNonce") == nonce
		return handled && field(now, "status.auth.activeKeyId") != field(before, "status.auth.activeKeyId"), field(now, "status.auth")
	})
	r.refresh(t, servicesApp)
	if got := field(r.get(t, services, demo, "demo"), "spec.auth.rotation.nonce"); got != nonce {
		t.Errorf("self-heal took the nonce away: %q", got)
	}
	if now := r.application(t, servicesApp).syncs; now != syncs {
		t.Errorf("%d syncs because of a rotation", now-syncs)
	}
	for _, state := range stop() {
		// Progressing until the operator has acted on the spec's new generation, which takes seconds.
		if state != "Synced Healthy" && state != "Synced Progressing" {
			t.Errorf("it was %s", state)
		}
	}
	r.becomes(t, servicesApp, "Synced", "Healthy", 30*time.Second)
}

func editIsHealed(t *testing.T, r *rig) {
	stop := r.record(t, servicesApp)
	r.patch(t, services, demo, "demo", `{"spec": {"replicas": 3}}`)
	eventually(t, 30*time.Second, "replicas are as in git", func() (bool, string) {
		now := field(r.get(t, services, demo, "demo"), "spec.replicas")
		return now == "1", now
	})
	r.becomes(t, servicesApp, "Synced", "Healthy", 60*time.Second)
	if states := stop(); !slices.ContainsFunc(states, func(s string) bool { return strings.HasPrefix(s, "OutOfSync") }) {
		t.Errorf("Argo CD never saw the edit: %v", states)
	}
	// A child is the operator's to heal, and none of Argo CD's business.
	stop = r.record(t, servicesApp)
	r.patch(t, deployments, demo, "demo", `{"spec": {"replicas": 0}}`)
	eventually(t, 30*time.Second, "the child is as planned", func() (bool, string) {
		now := field(r.get(t, deployments, demo, "demo"), "spec.replicas")
		return now == "1", now
	})
	r.becomes(t, servicesApp, "Synced", "Healthy", 60*time.Second)
	for _, state := range stop() {
		if strings.HasPrefix(state, "OutOfSync") {
			t.Errorf("drift because of a child: %s", state)
		}
	}
}

func deletionIsHealed(t *testing.T, r *rig) {
	before := r.get(t, deployments, "screenshot-operator", "screenshot-operator").GetUID()
	must(t, r.kube.Resource(deployments).Namespace("screenshot-operator").Delete(context.Background(), "screenshot-operator", metav1.DeleteOptions{}))
	eventually(t, 30*time.Second, "the operator's Deployment is back", func() (bool, string) {
		now, err := r.kube.Resource(deployments).Namespace("screenshot-operator").Get(context.Background(), "screenshot-operator", metav1.GetOptions{})
		return err == nil && now.GetUID() != before, fmt.Sprint(err)
	})
	r.becomes(t, operatorApp, "Synced", "Healthy", 60*time.Second)
	r.becomes(t, servicesApp, "Synced", "Healthy", 60*time.Second)
}

func restartWorks(t *testing.T, r *rig) {
	var before []string
	eventually(t, 60*time.Second, "pods that earlier steps ended are gone", func() (bool, string) {
		before = r.podNames(t, demo, demoPods)
		return len(before) == 1, fmt.Sprint(before)
	})
	stop := r.record(t, servicesApp)
	r.act(t, servicesApp, demo, "demo", "restart")
	eventually(t, 90*time.Second, "the pods are others", func() (bool, string) {
		now := r.podNames(t, demo, demoPods)
		return len(now) == len(before) && !slices.ContainsFunc(now, func(pod string) bool { return slices.Contains(before, pod) }), fmt.Sprint(now)
	})
	r.becomes(t, servicesApp, "Synced", "Healthy", 60*time.Second)
	states := stop()
	if !slices.Contains(states, "Synced Progressing") {
		t.Errorf("a restart was never Progressing: %v", states)
	}
	for _, state := range states {
		if state != "Synced Healthy" && state != "Synced Progressing" {
			t.Errorf("it was %s", state)
		}
	}
}

func suspendAndResumeWork(t *testing.T, r *rig) {
	offers := func(want ...string) {
		t.Helper()
		if got := r.offered(t, servicesApp, demo, "demo"); !slices.Equal(got, want) {
			t.Errorf("offered are %v, not %v", got, want)
		}
	}
	offers("restart", "rotate", "suspend")
	r.act(t, servicesApp, demo, "demo", "suspend")
	r.becomes(t, servicesApp, "Synced", "Suspended", 30*time.Second)
	eventually(t, 60*time.Second, "no capture pod is left", func() (bool, string) {
		now := r.podNames(t, demo, demoPods)
		return len(now) == 0, fmt.Sprint(now)
	})
	offers("resume")
	likeFixture(t, "testdata/suspended.yaml", r.get(t, services, demo, "demo"))
	healthIsOurScripts(t, r)
	r.act(t, servicesApp, demo, "demo", "resume")
	r.becomes(t, servicesApp, "Synced", "Healthy", 90*time.Second)
	offers("restart", "rotate", "suspend")
}

// healthIsOurScripts takes our script away for a moment: what is asked for above would not come without it.
func healthIsOurScripts(t *testing.T, r *rig) {
	const key = "resource.customizations.health.screenshot-operator.io_ScreenshotService"
	r.patch(t, configMaps, "argocd", "argocd-cm", `{"data": {"`+key+`": null}}`)
	r.refresh(t, servicesApp)
	r.becomes(t, servicesApp, "Synced", "Healthy", 30*time.Second)
	r.teach(t)
	r.refresh(t, servicesApp)
	r.becomes(t, servicesApp, "Synced", "Suspended", 30*time.Second)
}

func pruneRemoves(t *testing.T, r *rig) {
	r.commit(t, map[string]string{"services/minimal.yaml": ""})
	r.refresh(t, servicesApp)
	eventually(t, 60*time.Second, "the service is gone", func() (bool, string) {
		list, err := r.kube.Resource(services).List(context.Background(), metav1.ListOptions{})
		must(t, err)
		return len(list.Items) == 1, fmt.Sprint(len(list.Items), r.application(t, servicesApp))
	})
	eventually(t, 90*time.Second, "its namespace is gone", func() (bool, string) {
		left, err := r.kube.Resource(pods).Namespace("shots-web").List(context.Background(), metav1.ListOptions{})
		must(t, err)
		return len(left.Items) == 0, fmt.Sprint(len(left.Items))
	})
	r.becomes(t, servicesApp, "Synced", "Healthy", 60*time.Second)
	r.becomes(t, operatorApp, "Synced", "Healthy", 5*time.Second)
}

func samplesHaveNoDrift(t *testing.T, r *rig) {
	for _, mode := range []struct{ name, annotation, option string }{
		{"legacy", "", ""},
		{"structured merge", "", "ServerSideApply=true"},
		{"server side", "ServerSideDiff=true", "ServerSideApply=true"},
	} {
		r.apply(t, fmt.Sprintf(`
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: samples
  namespace: argocd
  annotations: {argocd.argoproj.io/compare-options: %q}
spec:
  project: screenshots
  source: {repoURL: %q, targetRevision: HEAD, path: samples}
  destination: {server: "https://kubernetes.default.svc", namespace: shots-samples}
  syncPolicy:
    automated: {prune: true, selfHeal: true}
    syncOptions: [%q]
`, mode.annotation, repository, mode.option))
		r.refresh(t, "samples")
		eventually(t, 30*time.Second, "samples are Synced, "+mode.name, func() (bool, string) {
			a := r.application(t, "samples")
			return a.sync == "Synced", a.String()
		})
		for name, generation := range r.generations(t, "shots-samples") {
			if generation != 1 {
				t.Errorf("%s: %s was written %d times", mode.name, name, generation)
			}
		}
		syncs := r.application(t, "samples").syncs
		r.refresh(t, "samples")
		if a := r.application(t, "samples"); a.sync != "Synced" || a.syncs != syncs {
			t.Errorf("%s: compared once more it is %s", mode.name, a)
		}
	}
}

// samples are the ScreenshotServices of examples/, each under a name of its own in a namespace where no pod may run:
// this is about manifests.
func samples(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{"samples/namespace.yaml": `
apiVersion: v1
kind: Namespace
metadata: {name: shots-samples}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: no-pods, namespace: shots-samples}
spec: {hard: {pods: "0"}}
`}
	for path, text := range directory(t, "examples") {
		if !strings.HasSuffix(path, ".yaml") {
			continue
		}
		for i, document := range strings.Split(text, "\n---\n") {
			obj := &unstructured.Unstructured{}
			must(t, yaml.Unmarshal([]byte(document), &obj.Object))
			if obj.GetKind() != "ScreenshotService" {
				continue
			}
			name := fmt.Sprintf("%s-%d", strings.TrimSuffix(strings.TrimPrefix(path, "examples/"), ".yaml"), i)
			obj.SetName(strings.ToLower(name))
			obj.SetNamespace("shots-samples")
			out, err := yaml.Marshal(obj.Object)
			must(t, err)
			files["samples/"+name+".yaml"] = string(out)
		}
	}
	if len(files) < 3 {
		t.Fatalf("only %d files of samples", len(files))
	}
	return files
}

func condition(obj *unstructured.Unstructured, kind string) string {
	conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == kind {
			return fmt.Sprint(c["status"])
		}
	}
	return ""
}

func onlyState(t *testing.T, states []string, want string) {
	t.Helper()
	for _, state := range states {
		if state != want {
			t.Errorf("it was %s", state)
		}
	}
}
