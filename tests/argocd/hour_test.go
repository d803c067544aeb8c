package main

// An idle hour of one service, while the scenario is busy with another one. In: a service at rest, whose child is touched
// every 750 ms, which makes the operator look at all of it as it does by itself every 40 seconds. Out: whether
// anything was written, and whether Argo CD ever took the service for changed.

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

const (
	idleNamespace = "shots-web"
	idleService   = "shots"
	// passesPerHour is what an idle hour has at least: one every 40 seconds.
	passesPerHour = 90
	// apart is longer than the operator leaves between two passes of a service, so that no two touches are one pass.
	apart = 750 * time.Millisecond
)

type hour struct {
	r       *rig
	touches atomic.Int64
	failed  atomic.Pointer[error]
	stop    context.CancelFunc
	ended   chan struct{}
	drift   func() []string
	version string
	passes  int
}

func (r *rig) beginHour(t *testing.T) *hour {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h := &hour{r: r, stop: cancel, ended: make(chan struct{})}
	h.version = r.get(t, services, idleNamespace, idleService).GetResourceVersion()
	h.passes = r.passes(t)
	h.drift = r.recordBy(t, servicesApp, func(app *unstructured.Unstructured) string {
		resources, _, _ := unstructured.NestedSlice(app.Object, "status", "resources")
		for _, resource := range resources {
			if r, _ := resource.(map[string]any); r["kind"] == "ScreenshotService" && r["name"] == idleService {
				return fmt.Sprint(r["status"])
			}
		}
		return "not there"
	})
	go h.run(ctx)
	t.Logf("touched every %s, %d times", apart, passesPerHour)
	return h
}

func (h *hour) run(ctx context.Context) {
	defer close(h.ended)
	tick := time.NewTicker(apart)
	defer tick.Stop()
	for h.touches.Load() < passesPerHour {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		patch := fmt.Sprintf(`{"metadata": {"annotations": {"example.com/touched": "%d"}}}`, h.touches.Load())
		// A Service, as any change of a Deployment is a roll-out to Kubernetes until its controller has looked.
		_, err := h.r.kube.Resource(kubeServices).Namespace(idleNamespace).Patch(ctx, idleService, types.MergePatchType, []byte(patch),
			metav1.PatchOptions{FieldManager: "somebody"})
		if err != nil {
			h.failed.Store(&err)
			return
		}
		h.touches.Add(1)
	}
}

// end waits for the rest of the hour.
func (h *hour) end(t *testing.T) {
	t.Helper()
	defer h.stop()
	begin := time.Now()
	select {
	case <-h.ended:
	case <-time.After(passesPerHour * apart):
		h.stop()
	}
	t.Logf("the rest of the hour took %.1f s", time.Since(begin).Seconds())
	if err := h.failed.Load(); err != nil {
		t.Fatal(*err)
	}
	h.r.refresh(t, servicesApp)
	// Each touch is a pass of its own; what the other services have comes on top.
	if made := h.r.passes(t) - h.passes; made < passesPerHour || h.touches.Load() < passesPerHour {
		t.Errorf("only %d passes and %d touches: that is no hour", made, h.touches.Load())
	}
	after := h.r.get(t, services, idleNamespace, idleService)
	if after.GetResourceVersion() != h.version {
		t.Errorf("the service was written: %v", after.Object["status"])
	}
	onlyState(t, h.drift(), "Synced")
}

// passes is how many reconciles the operator's processes have ended well.
func (r *rig) passes(t *testing.T) int {
	t.Helper()
	total := 0
	for _, pod := range r.podNames(t, "screenshot-operator", "app.kubernetes.io/name=screenshot-operator") {
		metrics := r.kubectl(t, "get", "--raw", "/api/v1/namespaces/screenshot-operator/pods/"+pod+":9090/proxy/metrics")
		for _, line := range strings.Split(metrics, "\n") {
			if count, found := strings.CutPrefix(line, `screenshot_operator_reconciles_total{outcome="ok"} `); found {
				number, err := strconv.Atoi(strings.TrimSpace(count))
				must(t, err)
				total += number
			}
		}
	}
	return total
}
