package source

import "time"

// Delay is how long to wait before the next poll: interval after a success, doubled for each failure in a row up to
// thirty minutes or interval, whichever is longer; in both cases spread by a fifth either way, so that a fleet that
// started together does not poll together. random is a number in [0, 1).
func Delay(interval time.Duration, failures int, random float64) time.Duration {
	longest := max(interval, 30*time.Minute)
	d := interval
	for range failures {
		if d *= 2; d >= longest {
			d = longest
			break
		}
	}
	return time.Duration(float64(d) * (0.8 + 0.4*random))
}
