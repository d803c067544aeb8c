package node

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

func TestTheEndIsMovedByAnotherUpAndByNothingElse(t *testing.T) {
	begin := time.Now()
	spec := layout.Spec{Started: begin, TimeLimit: 50 * time.Millisecond}
	later := spec
	later.TimeLimit = 300 * time.Millisecond
	for what, c := range map[string]struct {
		now  layout.Spec
		err  error
		ends time.Duration
	}{
		"nothing changed":      {spec, nil, 50 * time.Millisecond},
		"another up":           {later, nil, 300 * time.Millisecond},
		"a spec that is gone":  {later, errors.New("gone"), 50 * time.Millisecond},
		"a spec of before":     {layout.Spec{Started: begin}, nil, 50 * time.Millisecond},
		"a spec of no content": {layout.Spec{}, nil, 50 * time.Millisecond},
	} {
		spec.Started, later.Started = time.Now(), time.Now()
		if !c.now.Started.IsZero() {
			c.now.Started = spec.Started
		}
		why := waitForEnd(spec, func() (layout.Spec, error) { return c.now, c.err }, nil)
		if took := time.Since(spec.Started); took < c.ends {
			t.Errorf("%s: it ended after %v, want %v", what, took, c.ends)
		}
		if want := "time limit of " + c.ends.String(); !strings.Contains(why, want) {
			t.Errorf("%s: %q does not say %q", what, why, want)
		}
	}
}

func TestASignalIsAReasonToEnd(t *testing.T) {
	stop := make(chan os.Signal, 1)
	stop <- syscall.SIGTERM
	if why := waitForEnd(layout.Spec{Started: time.Now(), TimeLimit: time.Hour}, nil, stop); why != "terminated" {
		t.Error(why)
	}
}
