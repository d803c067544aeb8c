package layout

import (
	"testing"
	"time"
)

func TestAnotherUpGivesTheWholeLimitAgainAndNeverTakesTimeAway(t *testing.T) {
	begin := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ had, passed, asked, want time.Duration }{
		{time.Hour, 55 * time.Minute, time.Hour, 115 * time.Minute},
		{time.Hour, 10 * time.Minute, 10 * time.Minute, time.Hour},
		{time.Minute, 5*time.Second + 300*time.Millisecond, time.Minute, 65 * time.Second},
	} {
		spec := Spec{Name: "x", Started: begin, TimeLimit: c.had}
		got := spec.Renewed(c.asked, begin.Add(c.passed))
		if want := begin.Add(c.want); !got.Ends().Equal(want) {
			t.Errorf("%v, %v of them over, another %v: ends %v, want %v", c.had, c.passed, c.asked, got.Ends(), want)
		}
		if !got.SameAs(spec) || !got.Started.Equal(begin) {
			t.Errorf("more has changed than the time limit: %+v", got)
		}
	}
}
