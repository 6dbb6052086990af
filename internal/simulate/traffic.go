package simulate

import (
	"math"
	"math/rand/v2"
	"time"
)

// Scenario is traffic, a function and a stream.
type Scenario struct {
	Name, What   string
	Environments int
	Shards       int
	Length       time.Duration // during which INVOKEs arrive
	RunOn        time.Duration // for which they go on after that without being counted
	Spread       time.Duration // over which the environments' first INVOKEs are spread, evenly and at random
	Outage       time.Duration // for which the stream answers 500 to everything, from the beginning
	Stall        time.Duration // until which the stream answers nothing, from the beginning
	Lag          time.Duration // of the telemetry
	Idle         time.Duration // before SHUTDOWN; 0: as Lambda does
	Handler      time.Duration // what the function takes
	Lines        int           // log lines an invocation, spread evenly over the handler
	LineBytes    int           // what the function writes for each
	Traffic      Arrivals
}

// End is the Index of an invocation's platform.runtimeDone.
func (s *Scenario) End() int16 { return int16(s.Lines + 1) }

// Report is the Index of platform.report.
const Report = -1

const (
	// platformBytes is the size of a platform event, envelope what an event has beside its log line. An event takes as much in
	// the buffer as in a record: the Dispatcher counts about as much for itself as it adds to the event.
	platformBytes = 400
	envelope      = 150
)

// Event is an event of the Telemetry API.
type Event struct {
	At         time.Duration // of its emission
	batch      time.Duration // At of the first in its POST, which is what the extension looks at
	invocation int32         // in the order of all INVOKEs
	Number     int32         // of its INVOKE, in the environment, from 1
	Index      int16         // within the invocation: 0 is platform.start, then the lines, then platform.runtimeDone
	Bytes      int16
}

// Arrivals returns when the INVOKE after the last one arrives at an environment. One that finds it busy waits. n is the
// environment's, 0 at first, to remember something.
type Arrivals func(random *rand.Rand, last time.Duration, n *int) time.Duration

// Scenarios are the scenarios of the document.
func Scenarios() []Scenario {
	herd := Scenario{
		Name: "herd", What: "10,000 environments begin within a second, each an INVOKE a second; 64 shards, which 60 % would do for",
		Environments: 10_000, Shards: 64, Length: time.Minute, RunOn: 15 * time.Second, Spread: time.Second,
		Handler: 20 * time.Millisecond, Lines: 5, LineBytes: 400, Traffic: every(time.Second),
	}
	outage, overload := herd, herd
	outage.Name, outage.What = "herd, outage", "the same, and the stream answers 500 to everything for the first 20 s"
	outage.Outage = 20 * time.Second
	overload.Name, overload.What = "herd, overload", "the same on 4 shards, a tenth of what would do: nothing can be in time"
	overload.Shards = 4
	long := one("long handlers", "8 s every 20 s, logs throughout", 6*time.Hour, 8*time.Second, every(20*time.Second))
	long.Lines = 100
	return []Scenario{
		one("steady", "an INVOKE every 100 ms", 2*time.Hour, 20*time.Millisecond, every(100*time.Millisecond)),
		one("steady, slow", "an INVOKE every 2 s", 2*time.Hour, 50*time.Millisecond, every(2*time.Second)),
		one("sparse", "an INVOKE every 60 s, exponential", 24*time.Hour, 100*time.Millisecond, exponential(time.Minute)),
		one("bursty", "5 to 20 INVOKEs 50 ms apart, then a minute of nothing", 12*time.Hour, 20*time.Millisecond,
			bursts(5, 20, 50*time.Millisecond, time.Minute)),
		one("big bursts", "500 INVOKEs 50 ms apart every 3 min", 6*time.Hour, 20*time.Millisecond,
			bursts(500, 500, 50*time.Millisecond, 155*time.Second)),
		one("diurnal", "Poisson, from 5 a second to 1 a minute over a day", 24*time.Hour, 50*time.Millisecond,
			diurnal(5, 1.0/60, 24*time.Hour)),
		long, herd, outage, overload,
	}
}

// one is a scenario of one environment on one shard.
func one(name, what string, length, handler time.Duration, traffic Arrivals) Scenario {
	return Scenario{
		Name: name, What: what, Environments: 1, Shards: 1, Length: length,
		Handler: handler, Lines: 5, LineBytes: 400, Traffic: traffic,
	}
}

func every(gap time.Duration) Arrivals {
	return func(_ *rand.Rand, last time.Duration, _ *int) time.Duration { return last + gap }
}

func exponential(mean time.Duration) Arrivals {
	return func(random *rand.Rand, last time.Duration, _ *int) time.Duration {
		return last + time.Duration(random.ExpFloat64()*float64(mean))
	}
}

// bursts are of least to most INVOKEs, with a pause after each.
func bursts(least, most int, apart, pause time.Duration) Arrivals {
	return func(random *rand.Rand, last time.Duration, n *int) time.Duration {
		switch *n { // 0: a burst begins, else 1 and how many of its INVOKEs are left
		case 0:
			*n = least + random.IntN(most-least+1)
		case 1:
			*n = 0
			return last + pause
		}
		*n--
		return last + apart
	}
}

// diurnal is a Poisson process whose rate, INVOKEs a second, falls from high to low and rises again within a day.
func diurnal(high, low float64, day time.Duration) Arrivals {
	return func(random *rand.Rand, last time.Duration, _ *int) time.Duration {
		for {
			last += time.Duration(random.ExpFloat64() / high * float64(time.Second))
			phase := 2 * math.Pi * last.Seconds() / day.Seconds()
			if random.Float64()*high < low+(high-low)*(1+math.Cos(phase))/2 {
				return last
			}
		}
	}
}
