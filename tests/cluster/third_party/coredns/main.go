// Command coredns is CoreDNS with only the plugins the test cluster's Corefile names.
// In: a Corefile. Out: DNS answers for cluster.local. It must not forward anything: the cluster has
// no route out, so there is no forward plugin to be misconfigured.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// The order of this list is the order in which plugins see a query.
	dnsserver.Directives = []string{
		"reload", "health", "ready", "log", "errors",
		"template", "cache", "hosts", "kubernetes",
	}
	coremain.Run()
}
