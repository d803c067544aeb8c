package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

const pollEvery = 100 * time.Millisecond

// probe says whether a thing is there; why names what is missing while it is not.
type probe func(context.Context) (done bool, why string)

// waiter waits for things of one cluster and gives up early when a component has ended.
type waiter struct {
	cluster layout.Cluster
	client  kubernetes.Interface
}

func newWaiter(c layout.Cluster) (waiter, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return waiter{}, err
	}
	config.Timeout = 5 * time.Second
	config.QPS, config.Burst = 100, 200
	client, err := kubernetes.NewForConfig(config)
	return waiter{c, client}, err
}

func (w waiter) wait(ctx context.Context, what, logs string, limit time.Duration, p probe) error {
	interrupted := ctx.Done()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	why := ""
	for {
		done, reason := p(ctx)
		if done {
			return nil
		}
		if reason != "" {
			why = reason
		}
		if err := w.alive(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-interrupted:
			return fmt.Errorf("%s: interrupted", what)
		case <-ctx.Done():
			return fmt.Errorf("%s: not after %v: %s; see %s", what, limit, why, w.cluster.Log(logs))
		case <-time.After(pollEvery):
		}
	}
}

// alive gives an error that names the log as soon as pid 1 or a component has ended.
func (w waiter) alive() error {
	l, err := layout.ReadComponents(w.cluster)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range l {
		if c.Ended {
			path := w.cluster.Log(c.Name)
			errs = append(errs, fmt.Errorf("%s ended (%s); see %s, which ends with\n%s", c.Name, c.Result, path, tail(path, 4)))
		}
	}
	if pid, err := findPID1(w.cluster.Name); err == nil && pid == 0 {
		path := w.cluster.Log("pid1")
		errs = append(errs, fmt.Errorf("pid 1 ended; see %s, which ends with\n%s", path, tail(path, 4)))
	}
	return errors.Join(errs...)
}

// tail gives the last lines of a file, at most 4 KiB.
func tail(path string, lines int) string {
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return err.Error()
	}
	b = b[max(0, len(b)-4096):]
	l := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(l[max(0, len(l)-lines):], "\n")
}

func (w waiter) apiReady(ctx context.Context) (bool, string) {
	_, err := w.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err == nil, text(err)
}

// controllersReady: the default service account is made by a controller, and every pod needs it.
func (w waiter) controllersReady(ctx context.Context) (bool, string) {
	_, err := w.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
	return err == nil, text(err)
}

func (w waiter) nodeReady(ctx context.Context) (bool, string) {
	n, err := w.client.CoreV1().Nodes().Get(ctx, layout.NodeName, metav1.GetOptions{})
	if err != nil {
		return false, err.Error()
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue, c.Message
		}
	}
	return false, "no Ready condition"
}

func (w waiter) coreDNSAvailable(ctx context.Context) (bool, string) {
	d, err := w.client.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
	if err != nil {
		return false, err.Error()
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentAvailable {
			return c.Status == corev1.ConditionTrue, c.Message
		}
	}
	return false, "no Available condition"
}

// metricsServed: whoever lists what the API server has meets an error while a part of it is not served.
func (w waiter) metricsServed(ctx context.Context) (bool, string) {
	_, err := w.client.Discovery().RESTClient().Get().AbsPath("/apis/metrics.k8s.io/v1beta1").DoRaw(ctx)
	return err == nil, text(err)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
