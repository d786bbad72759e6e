package text4seg

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// RetryPolicy bounds how often and how fast a call is tried again.
//
// Only a server that said when to come back is asked again: RESOURCE_EXHAUSTED or UNAVAILABLE with a RetryInfo. Everything
// else, a refused connection included, is returned at once. Waits grow exponentially with "equal jitter", half of it
// fixed and half random (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), are never shorter
// than the server asks, and never reach beyond the deadline.
type RetryPolicy struct {
	Attempts   int           // calls in all, the first included; 1 never retries
	Initial    time.Duration // backoff after the first failure
	Multiplier float64       // growth of the backoff per failure
	Longest    time.Duration // largest backoff
}

// DefaultRetry is the policy of a client that is not given another one.
var DefaultRetry = RetryPolicy{Attempts: 4, Initial: 200 * time.Millisecond, Multiplier: 2, Longest: 5 * time.Second}

func (p RetryPolicy) check() error {
	if p.Attempts < 1 {
		return fmt.Errorf("text4seg: attempts must be at least 1, not %d", p.Attempts)
	}
	if p.Initial < 0 || p.Longest < 0 || !(p.Multiplier >= 1) {
		return errors.New("text4seg: backoff times must not be negative and must not shrink")
	}
	return nil
}

// wait returns how long to wait before the next attempt; false: the error must be returned.
//
// failures counts the last one; remaining is the time until the deadline; random is drawn from [0, 1).
func (p RetryPolicy) wait(err error, failures int, remaining time.Duration, random func() float64) (time.Duration, bool) {
	var failed *Error
	if !errors.As(err, &failed) || failed.retry == nil || failures >= p.Attempts {
		return 0, false
	}
	backoff := min(float64(p.Initial)*math.Pow(p.Multiplier, float64(failures-1)), float64(p.Longest))
	jittered := backoff / 2 * (1 + random())
	// A wait that the server asked for is spread upwards only: its callers must not return all at once.
	pause := time.Duration(max(jittered, float64(*failed.retry)+backoff/2*random()))
	return pause, pause < remaining
}

// try makes a call until it works, may not be tried again, or the deadline is too near. The context has a deadline.
func (c *Client) try(ctx context.Context, call func() error) error {
	for failures := 1; ; failures++ {
		err := call()
		if err == nil {
			return nil
		}
		remaining := time.Duration(math.MaxInt64)
		if deadline, bounded := ctx.Deadline(); bounded {
			remaining = time.Until(deadline)
		}
		pause, again := c.retry.wait(err, failures, remaining, rand.Float64)
		if !again {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return asError(ctx.Err(), nil)
		}
	}
}
