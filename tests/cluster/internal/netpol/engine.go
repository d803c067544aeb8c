package netpol

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	gather     = 20 * time.Millisecond // a burst of changes becomes one load
	retryAfter = time.Second
	nftTimeout = 10 * time.Second
)

// Off and On switch enforcement in the running engine: off, every policy is accepted and ignored.
const (
	Off = syscall.SIGUSR1
	On  = syscall.SIGUSR2
)

// Main is the command `netpol`: it runs until SIGTERM. The rules then stay, so that a restart of the
// engine opens no gap; -cleanup removes them.
func Main(args []string) error {
	fs := flag.NewFlagSet("netpol", flag.ContinueOnError)
	kubeconfig := fs.String("kubeconfig", "", "how to reach the API server")
	podCIDR := fs.String("pod-cidr", "", "drop traffic of addresses in here that belong to no known pod; empty: let it pass")
	cleanup := fs.Bool("cleanup", false, "remove the table and exit")
	if err := fs.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if *cleanup {
		return load(ctx, Replace(""))
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	return run(ctx, client, *podCIDR)
}

func run(ctx context.Context, client kubernetes.Interface, podCIDR string) error {
	f := informers.NewSharedInformerFactory(client, 0)
	pods, nss, nps := f.Core().V1().Pods(), f.Core().V1().Namespaces(), f.Networking().V1().NetworkPolicies()
	changed := make(chan struct{}, 1)
	poke := func() {
		select {
		case changed <- struct{}{}:
		default: // one is waiting already
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { poke() }, DeleteFunc: func(any) { poke() }, UpdateFunc: func(any, any) { poke() },
	}
	for _, i := range []cache.SharedIndexInformer{pods.Informer(), nss.Informer(), nps.Informer()} {
		if _, err := i.AddEventHandler(handler); err != nil {
			return err
		}
	}
	waitForAPI(ctx, client)
	f.Start(ctx.Done())
	f.WaitForCacheSync(ctx.Done()) // no rules from half a view
	poke()
	switched := make(chan os.Signal, 8)
	signal.Notify(switched, Off, On)
	loaded, off := "", false
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-switched:
			off = s == Off
			log.Printf("switched off: %t", off)
		case <-changed:
			time.Sleep(gather)
		}
		p, e1 := pods.Lister().List(labels.Everything())
		n, e2 := nss.Lister().List(labels.Everything())
		l, e3 := nps.Lister().List(labels.Everything())
		if err := errors.Join(e1, e2, e3); err != nil {
			return err
		}
		text := ""
		if !off {
			text = Render(State{Pods: p, Namespaces: n, Policies: l, PodCIDR: podCIDR})
		}
		if text == loaded {
			continue
		}
		if err := load(ctx, Replace(text)); err != nil {
			log.Printf("the old rules stay: %v\n%s", err, text)
			time.AfterFunc(retryAfter, poke)
			continue
		}
		log.Printf("loaded %d policies for %d pods, %d lines", len(l), len(p), strings.Count(text, "\n"))
		loaded = text
	}
}

// waitForAPI waits until the server is there and lets us read. Informers would find that out too, but
// their growing pauses would cost the start of a cluster seconds.
func waitForAPI(ctx context.Context, client kubernetes.Interface) {
	one := metav1.ListOptions{Limit: 1}
	for ctx.Err() == nil {
		_, e1 := client.NetworkingV1().NetworkPolicies("").List(ctx, one)
		_, e2 := client.CoreV1().Pods("").List(ctx, one)
		if e1 == nil && e2 == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// load hands the script to nft, which takes all of it or nothing.
func load(ctx context.Context, script string) error {
	ctx, cancel := context.WithTimeout(ctx, nftTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, "nft", "-f", "-")
	var stderr bytes.Buffer
	c.Stdin, c.Stderr = strings.NewReader(script), &stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return nil
}
