// Package metrics is the cluster's metrics-server, from which `kubectl top` and HorizontalPodAutoscalers have
// their figures.
// In: metrics-server's own arguments. Out: the API metrics.k8s.io, served until the process ends.
// It must not change what metrics-server does; it only has it wait for the API server.
package metrics

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/metrics-server/cmd/metrics-server/app"
)

// Where an API server publishes how it names its callers to the servers behind it.
const (
	callers    = "extension-apiserver-authentication"
	callersKey = "requestheader-client-ca-file"
)

const (
	pollEvery = 100 * time.Millisecond
	within    = 90 * time.Second
)

// Command is metrics-server's own. It reads once, at its start, who may call it, and does without the API server's
// word if that is not there yet: so it waits.
func Command() *cobra.Command {
	c := app.NewMetricsServerCommand(genericapiserver.SetupSignalHandler())
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		kubeconfig, err := c.Flags().GetString("kubeconfig")
		if err != nil {
			return err
		}
		return waitForCallers(kubeconfig)
	}
	return c
}

func waitForCallers(kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.Timeout = 5 * time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	var last error
	published := func(ctx context.Context) (bool, error) {
		found, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, callers, metav1.GetOptions{})
		last = err
		return err == nil && found.Data[callersKey] != "", nil
	}
	if err := wait.PollUntilContextTimeout(context.Background(), pollEvery, within, true, published); err != nil {
		return fmt.Errorf("config map %s: not after %v: %w", callers, within, last)
	}
	return nil
}
