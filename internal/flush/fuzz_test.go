package flush

import (
	"testing"
	"time"
)

// script turns a fuzzer's bytes into decisions. After the last byte it returns 0.
type script []byte

func (s *script) next() (b byte) {
	if len(*s) > 0 {
		b, *s = (*s)[0], (*s)[1:]
	}
	return b
}

// duration returns one of 256 durations from 0 to about 65 s, the short ones closer together.
func (s *script) duration() time.Duration {
	b := int(s.next())
	return time.Duration(b*b) * ms
}

// flight returns the result of a flight with the given duration.
func (s *script) flight(took time.Duration) Flight {
	b := s.next()
	f := Flight{
		Took: took, Bytes: int(b) * 1000,
		Progress: b&1 == 0, Failed: b&2 == 0, Partial: b&4 == 0, Unanswered: b&8 == 0,
		Frozen: b&16 == 0, Canceled: b&32 == 0, Invalid: b&64 == 0, Random: float64(b) / 256,
	}
	f.Partial = f.Partial || f.Failed
	return f
}

// fuzzed is an environment that checks invariants at each step.
type fuzzed struct {
	*env
	t *testing.T

	wasted  time.Duration // sum of the wasted holds since the stream accepted a flight in full
	backlog time.Duration // sum of the holds since less than a record was left
	failed  bool          // the stream did not accept something at once in this invocation
}

// fillBuffer sets the bytes in the buffer and the age of the oldest event.
func (z *fuzzed) fillBuffer(s *script) {
	z.buffer(int(s.next())*2000, time.Duration(s.next())*100*ms)
}

// endFlight ends a flight. interrupted means that an INVOKE came during it.
func (z *fuzzed) endFlight(f Flight, interrupted bool) {
	switch {
	case !f.Failed:
		z.wasted = 0
	case f.Frozen || interrupted:
	default:
		z.failed = true
	}
	if z.b.Bytes < z.fullBacklog() {
		z.backlog = 0
	}
	z.note(f)
	z.check()
}

func (z *fuzzed) check() {
	z.t.Helper()
	s := &z.settings
	switch wait, ever := z.NextFlight(z.now, z.b); {
	case wait < 0, wait > max(time.Minute, s.MaxDelay):
		z.t.Fatalf("%s: ships in %s", s.Mode, wait)
	case ever && z.b.Bytes == 0:
		z.t.Fatalf("%s: the buffer is empty, and ships in %s", s.Mode, wait)
	}
	switch until, patience := z.Bounds(z.now, AtEnd); {
	case patience <= 0:
		z.t.Fatalf("%s: waits without a bound for a flight that hangs", s.Mode)
	case until.Sub(z.endedAt) > s.FlushTimeout:
		z.t.Fatalf("%s: may be held for %s", s.Mode, until.Sub(z.endedAt))
	}
	if z.breaker.spent < 0 || z.breaker.spent > s.FlushTimeout || z.breaker.roundTrip < 0 {
		z.t.Fatalf("%s: spent %s, round trip %s", s.Mode, z.breaker.spent, z.breaker.roundTrip)
	}
}

// invocation runs an invocation: INVOKE, flights while the handler runs, the end or its loss, flights at the end, the
// call of next.
func (z *fuzzed) invocation(s *script) {
	z.fillBuffer(s)
	_, flies := z.StartFlight(z.now, z.b, Background) // before the freeze
	z.failed = false
	z.invoke(s.duration())
	if z.check(); flies {
		z.endFlight(s.flight(z.now.Sub(z.traffic.last)), true)
	}
	if s.next()&1 == 0 { // while the handler runs
		if _, ok := z.StartFlight(z.now, z.b, Background); ok {
			took := s.duration()
			z.wait(took)
			z.endFlight(s.flight(took), false)
		}
	}
	until, _ := z.AwaitEnd(z.now)
	if until.After(z.now.Add(deadline)) || z.settings.Mode == Deferred && !until.IsZero() {
		z.t.Fatalf("%s: waits until %s", z.settings.Mode, until.Sub(z.now))
	}
	switch b := s.next(); b & 3 {
	case 0:
		z.giveUp()
	case 1:
		z.note(TelemetryLost{})
		fallthrough
	default:
		z.wait(s.duration())
		z.note(EndSeen{Number: z.number, At: z.now.Add(-time.Duration(b) * 3 * ms), Took: z.now.Sub(z.traffic.last)})
	}
	z.check()
	if _, seen := z.AwaitEnd(z.now); seen {
		z.shipAtEnd(s)
	}
	z.note(NextCalled{})
	z.check()
}

// shipAtEnd starts flights after the function's end, until the hold is over.
func (z *fuzzed) shipAtEnd(s *script) {
	seen := z.now
	until, _ := z.Bounds(z.now, AtEnd)
	stopped := false
	for !stopped && z.now.Before(until) {
		if _, ok := z.StartFlight(z.now, z.b, AtEnd); !ok {
			break
		}
		took := min(s.duration(), until.Sub(z.now))
		z.wait(took)
		z.fillBuffer(s)
		f := s.flight(took)
		f.Frozen, f.Canceled = false, false
		z.endFlight(f, false)
		stopped = f.Failed
	}
	if seen.After(until) {
		return // the hold was over before the end was seen
	}
	held := z.now.Sub(z.endedAt)
	if z.failed {
		z.wasted += held
	}
	if z.b.Bytes >= z.fullBacklog() && !stopped && !z.now.Before(z.breaker.retryAt) {
		z.backlog += held
	}
	if z.wasted > z.settings.FlushTimeout || z.backlog > z.settings.FlushTimeout {
		z.t.Fatalf("%s: wasted %s, held %s for one backlog", z.settings.Mode, z.wasted, z.backlog)
	}
}

// FuzzPolicy checks bounds that hold for any facts. No invocation is held for longer than FLUSH_TIMEOUT. Until the
// stream accepts a flight in full, all wasted holds are at most FLUSH_TIMEOUT in sum; so are all holds for one backlog.
// No invocation waits beyond its deadline. The background pauses for at most a minute, or MaxDelay.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte{0, 0})
	f.Add([]byte{20, 100, 1, 2, 3, 200, 100, 7, 9, 255, 0, 0, 0, 4})
	for seed := range byte(8) { // a few inputs that are long enough for many invocations
		long := make([]byte, 400)
		x := uint32(seed) + 1
		for i := range long {
			x = x*1664525 + 1013904223
			long[i] = byte(x >> 24)
		}
		f.Add(long)
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		for _, mode := range []Mode{Sync, Deferred, Adaptive} {
			s := script(bytes)
			settings := settings(mode)
			settings.FlushTimeout, settings.MaxDelay = 10*ms+s.duration(), 100*ms+s.duration()
			z := &fuzzed{env: envOf(settings), t: t}
			for len(s) > 0 {
				z.invocation(&s)
			}
		}
	})
}
