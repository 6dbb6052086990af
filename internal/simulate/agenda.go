package simulate

import "time"

// kind is what happens to an environment. Of each kind one at most is to come.
type kind uint8

const (
	invoke     kind = iota // Lambda sends INVOKE
	shutdown               // Lambda sends SHUTDOWN
	handlerEnd             // the function's handler returns
	post                   // the Telemetry API delivers a batch
	flying                 // a flight has its answer, or its pause or its time is over
	due                    // the background shipper looks again
	holdOver               // the invocation may be held back no longer
	lastWords              // SHUTDOWN has waited for the last telemetry
	drainOver              // the time for SHUTDOWN is over
	kinds
)

// appointment is something that happens at a time, unless it was put off: then its turn is not the environment's.
type appointment struct {
	at          time.Duration
	order       uint64 // what was made first comes first
	environment int32
	turn        uint32
	kind        kind
}

func (a *appointment) before(b *appointment) bool {
	return a.at < b.at || a.at == b.at && a.order < b.order
}

// agenda is a binary heap. container/heap would allocate for each appointment.
type agenda struct {
	heap  []appointment
	order uint64
}

func (g *agenda) add(a appointment) {
	g.order++
	a.order = g.order
	g.heap = append(g.heap, a)
	i := len(g.heap) - 1
	for i > 0 && a.before(&g.heap[(i-1)/2]) {
		g.heap[i] = g.heap[(i-1)/2]
		i = (i - 1) / 2
	}
	g.heap[i] = a
}

func (g *agenda) next() (first appointment, ok bool) {
	if len(g.heap) == 0 {
		return first, false
	}
	first = g.heap[0]
	n := len(g.heap) - 1
	last := g.heap[n]
	g.heap = g.heap[:n]
	i := 0
	for 2*i+1 < n {
		child := 2*i + 1
		if child+1 < n && g.heap[child+1].before(&g.heap[child]) {
			child++
		}
		if !g.heap[child].before(&last) {
			break
		}
		g.heap[i] = g.heap[child]
		i = child
	}
	if n > 0 {
		g.heap[i] = last
	}
	return first, true
}
