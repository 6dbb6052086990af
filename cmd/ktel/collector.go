//go:build unix

package main

import (
	"sync"

	"kinesis-telemetry-extension/internal/audit"
)

// collector takes the records of a stream as they arrive, audits them and shows their events in that order. Its goroutine lives from
// newCollector to finish.
type collector struct {
	audit   audit.Audit
	show    showLine        // nil: show nothing
	onError func(err error) // called once, when nothing can be shown any more

	mu       sync.Mutex
	queue    []kinesisRecord
	finished bool
	wake     chan struct{} // holds one token while there may be something new
	done     chan struct{}
}

// showLine shows the event of a line, or what is wrong with it.
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

// record takes one record, in the order of its shard. It never waits, so that a slow terminal does not change what is
// measured, and keeps data, which must not change any more.
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

// finish waits until all records are audited and shown. No record may come after it.
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
