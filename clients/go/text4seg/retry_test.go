package text4seg

import (
	"testing"
	"time"
)

// The twin of tests/unit/test_client_retry.py.
func TestAWaitIsNeverSoonerThanAskedAndEndsBeforeTheDeadline(t *testing.T) {
	policy := RetryPolicy{Attempts: 9, Initial: time.Second, Multiplier: 2, Longest: 6 * time.Second}
	for _, asked := range []time.Duration{0, time.Millisecond, 3 * time.Second, 20 * time.Second} {
		for failures := 1; failures < 9; failures++ {
			for _, jitter := range []float64{0, 0.3, 0.999} {
				for _, remaining := range []time.Duration{0, time.Second, 5 * time.Second, time.Minute} {
					random := func() float64 { return jitter }
					pause, again := policy.wait(&Error{retry: &asked}, failures, remaining, random)
					if again && (pause < asked || pause >= remaining || pause > max(asked, 0)+policy.Longest) {
						t.Errorf("asked %v, failure %d, %v left: %v", asked, failures, remaining, pause)
					}
				}
			}
		}
	}
}

func TestTheBackoffGrowsAndIsJittered(t *testing.T) {
	policy := RetryPolicy{Attempts: 9, Initial: time.Second, Multiplier: 2, Longest: 6 * time.Second}
	asked := time.Duration(0)
	want := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second}
	for i, low := range want {
		pause, again := policy.wait(&Error{retry: &asked}, i+1, time.Hour, func() float64 { return 0 })
		if !again || pause != low {
			t.Errorf("failure %d: %v, not %v", i+1, pause, low)
		}
		more, _ := policy.wait(&Error{retry: &asked}, i+1, time.Hour, func() float64 { return 0.999 })
		if more <= low {
			t.Errorf("failure %d: no jitter, %v", i+1, more)
		}
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	asked := time.Duration(0)
	for attempts := 1; attempts < 6; attempts++ {
		policy := RetryPolicy{Attempts: attempts, Multiplier: 1}
		retries := 0
		for failures := 1; failures < 12; failures++ {
			if _, again := policy.wait(&Error{retry: &asked}, failures, time.Hour, func() float64 { return 0 }); again {
				retries++
			}
		}
		if retries != attempts-1 {
			t.Errorf("%d attempts allow %d retries", attempts, retries)
		}
	}
	if _, again := DefaultRetry.wait(&Error{}, 1, time.Hour, func() float64 { return 0 }); again {
		t.Error("it is tried again although the server did not ask")
	}
}
