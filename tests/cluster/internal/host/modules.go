package host

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// bridgeFilter is the kernel's module through which packets between two ports of a bridge meet the packet filter: without
// it policies would not act between pods. It is the only one of those needed that the kernel does not load by itself when
// it is first used (as it does overlay, bridge, veth and nf_tables).
const bridgeFilter = "br_netfilter"

// loadBridgeFilter loads that module where it is neither loaded nor built in. It stays loaded, as nobody can know who uses
// it by then; but the host's own bridges go on without it, which the kernel would otherwise have changed with its loading.
func loadBridgeFilter(proc string, load func(module string) error) error {
	settings := filepath.Join(proc, "sys/net/bridge")
	if _, err := os.Stat(settings); err == nil {
		return nil
	}
	if err := load(bridgeFilter); err != nil {
		return fmt.Errorf("the kernel needs its module %s, so that policies act between pods: %w", bridgeFilter, err)
	}
	for _, s := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"} {
		if err := os.WriteFile(filepath.Join(settings, s), []byte("0"), 0o644); err != nil {
			return fmt.Errorf("kernel module %s: %w", bridgeFilter, err)
		}
	}
	return nil
}

func modprobe(module string) error {
	out, err := exec.Command("modprobe", module).CombinedOutput()
	if err != nil {
		return fmt.Errorf("modprobe %s: %w: %s", module, err, strings.TrimSpace(string(out)))
	}
	return nil
}
