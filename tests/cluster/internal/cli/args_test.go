package cli

import (
	"errors"
	"strings"
	"testing"
	"time"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

func TestArgumentsThatAreUnderstood(t *testing.T) {
	for line, want := range map[string]Command{
		"up": {Verb: "up", Name: "dev", Port: layout.DefaultPort, Limit: time.Hour},
		"up --control-plane-only --time-limit 5 --name x --port 2000": {Verb: "up", Name: "x", Port: 2000, Limit: 5 * time.Minute, ControlPlaneOnly: true},
		"up --no-network-policy": {Verb: "up", Name: "dev", Port: layout.DefaultPort, Limit: time.Hour, NoNetworkPolicy: true},
		"down --name x":          {Verb: "down", Name: "x"},
		"status --json":          {Verb: "status", Name: "dev", JSON: true},
		"load a.tar --name x":    {Verb: "load", Name: "x", Arg: "a.tar"},
		"load --name x a.tar":    {Verb: "load", Name: "x", Arg: "a.tar"},
		"logs":                   {Verb: "logs", Name: "dev"},
		"network-policy off":     {Verb: "network-policy", Name: "dev", Arg: "off"},
		"check --name x":         {Verb: "check", Name: "x"},
		"logs kubelet":           {Verb: "logs", Name: "dev", Arg: "kubelet"},
	} {
		if got, err := Parse(strings.Fields(line), "dev"); err != nil || got != want {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
	}
}

func TestArgumentsThatAreRefused(t *testing.T) {
	for _, line := range []string{
		"fly", "up now", "load", "load a b", "down --time-limit 5", "up --time-limit 0", "up --time-limit 1441", "up --port 80",
		"up --name ../x", "up --name -x", "up --name X", "up --name aaaaaaaaaaaaaaaaaaaaa", "logs a b", "up --bogus",
		"network-policy", "network-policy maybe",
	} {
		if c, err := Parse(strings.Fields(line), "dev"); err == nil {
			t.Errorf("%q was taken for %+v", line, c)
		}
	}
}

func TestNoArgumentsAskForHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"help"}, {"--help"}} {
		if _, err := Parse(args, "dev"); !errors.Is(err, ErrHelp) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestUnixSocketPathsFitForTheLongestName(t *testing.T) {
	c := layout.Cluster{Name: strings.Repeat("a", 20)}
	if err := layout.CheckName(c.Name); err != nil {
		t.Fatal(err)
	}
	if n := len(c.Socket() + ".ttrpc"); n > 107 {
		t.Errorf("%d bytes", n)
	}
}
