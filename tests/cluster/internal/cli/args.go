// Package cli reads the arguments of `cluster`.
// In: the arguments. Out: one Command, or an error that says what would be right.
// It must not do anything but read them.
package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

// Usage is printed by `cluster help`.
const Usage = `cluster: a real single-node Kubernetes in namespaces of its own

  up [--control-plane-only] [--no-network-policy] [--time-limit MINUTES] [--port N]
                  start it and wait until it works (idempotent)
  down            end it and remove everything
  status [--json] what runs, and where things are
  kubeconfig      print the kubeconfig's path
  load IMAGE.tar  import a docker-archive or oci-archive
  network-policy on|off
                  have the engine of a running cluster enforce policies, or ignore them
  check           prove again with pods that DNS answers, and that policies and Pod Security act
  logs [NAME]     print a component's log; without NAME list them
  build           build the third-party programs now
  kubectl ..., helm ...   run these against the cluster

Every command takes --name N (or CLUSTER_NAME; default "dev").
`

const (
	defaultMinutes = 60
	maxMinutes     = 24 * 60
)

// ErrHelp asks for the usage text.
var ErrHelp = errors.New("help")

// Command is what the arguments ask for.
type Command struct {
	Verb  string
	Name  string
	Arg   string // load: the archive; logs: the component; network-policy: on or off
	JSON  bool
	Port  int
	Limit time.Duration

	ControlPlaneOnly bool
	NoNetworkPolicy  bool
}

// operands says how many arguments besides flags a verb wants.
var operands = map[string]struct{ min, max int }{
	"up": {0, 0}, "down": {0, 0}, "status": {0, 0}, "kubeconfig": {0, 0},
	"load": {1, 1}, "logs": {0, 1}, "build": {0, 0}, "network-policy": {1, 1},
	"check": {0, 0},
}

// Parse reads the arguments; defaultName is used without --name.
func Parse(args []string, defaultName string) (Command, error) {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		return Command{}, ErrHelp
	}
	c := Command{Verb: args[0]}
	want, ok := operands[c.Verb]
	if !ok {
		return c, fmt.Errorf("unknown command %q; `cluster help` lists them", c.Verb)
	}
	fs := flag.NewFlagSet(c.Verb, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&c.Name, "name", defaultName, "")
	minutes := defaultMinutes
	switch c.Verb {
	case "up":
		fs.BoolVar(&c.ControlPlaneOnly, "control-plane-only", false, "")
		fs.BoolVar(&c.NoNetworkPolicy, "no-network-policy", false, "")
		fs.IntVar(&minutes, "time-limit", defaultMinutes, "")
		fs.IntVar(&c.Port, "port", layout.DefaultPort, "")
	case "status":
		fs.BoolVar(&c.JSON, "json", false, "")
	}
	rest, err := parseMixed(fs, args[1:])
	if err != nil {
		return c, fmt.Errorf("%s: %w", c.Verb, err)
	}
	if len(rest) < want.min || len(rest) > want.max {
		return c, fmt.Errorf("%s: %d arguments, want %d to %d", c.Verb, len(rest), want.min, want.max)
	}
	if len(rest) == 1 {
		c.Arg = rest[0]
	}
	return c, c.check(minutes)
}

func (c *Command) check(minutes int) error {
	if err := layout.CheckName(c.Name); err != nil {
		return err
	}
	if c.Verb == "network-policy" && c.Arg != "on" && c.Arg != "off" {
		return fmt.Errorf("network-policy %q: want on or off", c.Arg)
	}
	if c.Verb != "up" {
		return nil
	}
	if minutes < 1 || minutes > maxMinutes {
		return fmt.Errorf("--time-limit %d: want 1 to %d minutes", minutes, maxMinutes)
	}
	if c.Port < 1024 || c.Port > 65535 {
		return fmt.Errorf("--port %d: want 1024 to 65535", c.Port)
	}
	c.Limit = time.Duration(minutes) * time.Minute
	return nil
}

// parseMixed lets flags come before and after operands.
func parseMixed(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		args = fs.Args()
		if len(args) > 0 {
			rest, args = append(rest, args[0]), args[1:]
		}
	}
	return rest, nil
}
