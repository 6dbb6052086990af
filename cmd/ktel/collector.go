//go:build unix

package main

import (
	"sync"

	"kinesis-telemetry-extension/internal/audit"
)

// collector audits the records of a stream as they arrive, and shows their events in that order.
// Its goroutine runs from newCollector to finish.
type collector struct {
	audit   audit.Audit
	show    showLine        // nil: events are not shown
	onError func(err error) // called once, if showing fails

	mu       sync.Mutex
	queue    []kinesisRecord
	finished bool
	wake     chan struct{} // has a token while there may be new records
	done     chan struct{}
}

// showLine shows the event of a line, or why it is not an event.
type showLine func(*audit.Line) error

type kinesisRecord struct {
	partitionKey string
	data         []byte
}

func newCollector(show showLine, failed func(error)) *collector {
	c := &collector{show: show, onError: failed, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go c.loop()
	return c
}

// record queues one record; calls for a shard come in its order. It never waits, so that a slow terminal does not distort
// the measurement. It keeps data, which must not change afterwards.
func (c *collector) record(partitionKey string, data []byte) {
	c.mu.Lock()
	c.queue = append(c.queue, kinesisRecord{partitionKey, data})
	c.mu.Unlock()
	c.signal()
}

func (c *collector) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// finish waits until all records are audited and shown. record must not be called after it.
func (c *collector) finish() {
	c.mu.Lock()
	c.finished = true
	c.mu.Unlock()
	c.signal()
	<-c.done
}

func (c *collector) loop() {
	defer close(c.done)
	for range c.wake {
		c.mu.Lock()
		records, finished := c.queue, c.finished
		c.queue = nil
		c.mu.Unlock()
		for _, r := range records {
			c.process(r)
		}
		if finished {
			return
		}
	}
}

func (c *collector) process(r kinesisRecord) {
	c.audit.AddRecord(r.partitionKey, r.data)
	if c.show == nil {
		return
	}
	lines := audit.Lines(r.data)
	for i := range lines {
		if err := c.show(&lines[i]); err != nil {
			c.show = nil
			c.onError(err)
			return
		}
	}
}
