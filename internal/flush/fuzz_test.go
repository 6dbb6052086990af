package flush

import (
	"testing"
	"time"
)

// script is what a fuzzer's bytes decide. Behind the last of them it says 0.
type script []byte

func (s *script) next() (b byte) {
	if len(*s) > 0 {
		b, *s = (*s)[0], (*s)[1:]
	}
	return b
}

// duration says one of 256 durations between nothing and about 65 s, the short ones closer together.
func (s *script) duration() time.Duration {
	b := int(s.next())
	return time.Duration(b*b) * ms
}

// flight says how a flight ended that took so long.
func (s *script) flight(took time.Duration) Flight {
	b := s.next()
	f := Flight{
		Took: took, Bytes: int(b) * 1000, Progress: b&1 == 0, Failed: b&2 == 0, Partial: b&4 == 0, Unanswered: b&8 == 0, Frozen: b&16 == 0,
		Canceled: b&32 == 0, Invalid: b&64 == 0, Random: float64(b) / 256,
	}
	f.Partial = f.Partial || f.Failed
	return f
}

// fuzzed is an environment that checks at each step what must hold whatever happens.
type fuzzed struct {
	*env
	t *testing.T

	vain    time.Duration // that invocations were held in vain since the stream took something in full
	backlog time.Duration // that they were held since less than a record was left
	failed  bool          // something was not taken at once in this invocation
}

// fillBuffer lets so many bytes be buffered.
func (z *fuzzed) fillBuffer(s *script) {
	z.buffer(int(s.next())*2000, time.Duration(s.next())*100*ms)
}

// endFlight lets a flight that has begun end.
func (z *fuzzed) endFlight(f Flight, caught bool) {
	switch {
	case !f.Failed:
		z.vain = 0
	case f.Frozen || caught:
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
		z.t.Fatalf("%s: due in %s", s.Mode, wait)
	case ever && z.b.Bytes == 0:
		z.t.Fatalf("%s: nothing is buffered, and due in %s", s.Mode, wait)
	}
	switch until, patience := z.Bounds(z.now, AtEnd); {
	case patience <= 0:
		z.t.Fatalf("%s: a flight that hangs is waited for until it ends", s.Mode)
	case until.Sub(z.endedAt) > s.FlushTimeout:
		z.t.Fatalf("%s: held for %s", s.Mode, until.Sub(z.endedAt))
	}
	if z.breaker.spent < 0 || z.breaker.spent > s.FlushTimeout || z.breaker.roundTrip < 0 {
		z.t.Fatalf("%s: spent %s, round trip %s", s.Mode, z.breaker.spent, z.breaker.roundTrip)
	}
}

// invocation serves one: INVOKE, what happens beside the handler, the end or not, what is shipped then, and the call of next.
func (z *fuzzed) invocation(s *script) {
	z.fillBuffer(s)
	_, flies := z.StartFlight(z.now, z.b, Background) // before the freeze
	z.failed = false
	z.invoke(s.duration())
	if z.check(); flies {
		z.endFlight(s.flight(z.now.Sub(z.traffic.last)), true)
	}
	if s.next()&1 == 0 { // beside the handler
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

// shipAtEnd is what happens behind the function's end.
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
		return // too late to be held for anything
	}
	held := z.now.Sub(z.endedAt)
	if z.failed {
		z.vain += held
	}
	if z.b.Bytes >= z.fullBacklog() && !stopped && !z.now.Before(z.breaker.retryAt) {
		z.backlog += held
	}
	if z.vain > z.settings.FlushTimeout || z.backlog > z.settings.FlushTimeout {
		z.t.Fatalf("%s: held %s in vain, %s for one backlog", z.settings.Mode, z.vain, z.backlog)
	}
}

// FuzzPolicy: whatever happens, an invocation is never held for longer than FLUSH_TIMEOUT; nor are all together in vain until the stream
// takes something in full, or for one backlog. Nothing is waited for beyond the deadline, and the background never rests for more than
// a minute, or MaxDelay.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte{0, 0})
	f.Add([]byte{20, 100, 1, 2, 3, 200, 100, 7, 9, 255, 0, 0, 0, 4})
	for seed := range byte(8) { // a few that are long enough to reach something
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
