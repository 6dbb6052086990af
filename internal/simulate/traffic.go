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
	Length       time.Duration // time in which INVOKEs arrive and count
	RunOn        time.Duration // time after Length in which INVOKEs arrive and do not count
	Spread       time.Duration // time over which the environments' first INVOKEs are spread, evenly and at random
	Outage       time.Duration // time from the beginning in which the stream replies 500 to everything
	Stall        time.Duration // time from the beginning in which the stream does not reply
	Lag          time.Duration // of the telemetry
	Idle         time.Duration // time before SHUTDOWN; 0: like Lambda
	Handler      time.Duration // time of the handler
	Lines        int           // log lines per invocation, spread evenly over the handler
	LineBytes    int           // size of a log line
	Traffic      Arrivals
}

// End is the Index of an invocation's platform.runtimeDone.
func (s *Scenario) End() int16 { return int16(s.Lines + 1) }

// Report is the Index of platform.report.
const Report = -1

const (
	// platformBytes is the size of a platform event, envelope the size of an event without its log line. An event counts with the
	// same size in the buffer and in a record: the Dispatcher's overhead per event is about the size of the members that it adds.
	platformBytes = 400
	envelope      = 150
)

// Event is an event of the Telemetry API.
type Event struct {
	At         time.Duration // of its emission
	batch      time.Duration // At of the first event in its POST, by which the extension computes the age
	invocation int32         // in the order of all INVOKEs
	Number     int32         // of its INVOKE, in the environment, from 1
	Index      int16         // within the invocation: 0 is platform.start, then the lines, then platform.runtimeDone
	Bytes      int16
}

// Arrivals returns the time of the INVOKE after the last one of an environment. An INVOKE waits while its environment is busy. n
// is a variable of the environment, 0 at first, in which Arrivals can keep state.
type Arrivals func(random *rand.Rand, last time.Duration, n *int) time.Duration

// Scenarios returns the scenarios of the document.
func Scenarios() []Scenario {
	herd := Scenario{
		Name: "herd", What: "10,000 environments start within a second, each with an INVOKE every second; 64 shards, 60 % used",
		Environments: 10_000, Shards: 64, Length: time.Minute, RunOn: 15 * time.Second, Spread: time.Second,
		Handler: 20 * time.Millisecond, Lines: 5, LineBytes: 400, Traffic: every(time.Second),
	}
	outage, overload := herd, herd
	outage.Name, outage.What = "herd, outage", "the same, and the stream replies 500 to everything for the first 20 s"
	outage.Outage = 20 * time.Second
	overload.Name, overload.What = "herd, overload", "the same on 4 shards, a tenth of the needed capacity: no mode can be in time"
	overload.Shards = 4
	long := one("long handlers", "8 s every 20 s, logs throughout", 6*time.Hour, 8*time.Second, every(20*time.Second))
	long.Lines = 100
	return []Scenario{
		one("steady", "an INVOKE every 100 ms", 2*time.Hour, 20*time.Millisecond, every(100*time.Millisecond)),
		one("steady, slow", "an INVOKE every 2 s", 2*time.Hour, 50*time.Millisecond, every(2*time.Second)),
		one("sparse", "an INVOKE every 60 s, exponential", 24*time.Hour, 100*time.Millisecond, exponential(time.Minute)),
		one("bursty", "5 to 20 INVOKEs 50 ms apart, then an idle minute", 12*time.Hour, 20*time.Millisecond,
			bursts(5, 20, 50*time.Millisecond, time.Minute)),
		one("big bursts", "500 INVOKEs 50 ms apart every 3 min", 6*time.Hour, 20*time.Millisecond,
			bursts(500, 500, 50*time.Millisecond, 155*time.Second)),
		one("diurnal", "Poisson, from 5 per second to 1 per minute over a day", 24*time.Hour, 50*time.Millisecond,
			diurnal(5, 1.0/60, 24*time.Hour)),
		long, herd, outage, overload,
	}
}

// one returns a scenario of one environment on one shard.
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

// bursts returns bursts of least to most INVOKEs, with a pause after each burst.
func bursts(least, most int, apart, pause time.Duration) Arrivals {
	return func(random *rand.Rand, last time.Duration, n *int) time.Duration {
		switch *n { // 0: a burst begins; else 1 plus the number of its remaining INVOKEs
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

// diurnal returns a Poisson process whose rate, in INVOKEs per second, falls from high to low and rises again within a day.
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
