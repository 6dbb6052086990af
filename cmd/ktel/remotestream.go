//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"kinesis-telemetry-extension/internal/sandbox"
	"kinesis-telemetry-extension/internal/session"
)

const (
	// quietTime is the time without a new record after which missing events count as lost.
	quietTime = 5 * time.Second
	// failingPeriods is the number of periods of quietTime in which reads may fail before reading ends: a throttled read recovers.
	failingPeriods = 6
	pollInterval   = time.Second
)

// remoteStream is a stream behind a Kinesis endpoint. Reading starts where the shards ended when it was opened.
type remoteStream struct {
	dest      destination
	cancel    context.CancelFunc
	polls     chan session.Poll     // dropped while drain does not receive
	readError atomic.Pointer[error] // why reads fail at present; nil: they succeed
	done      chan struct{}         // closed when reading ends
	err       error                 // why reading ended; valid after done
}

// remoteOptions name a stream, by name or ARN, and its endpoint.
type remoteOptions struct {
	endpoint, region, stream string
	create                   bool
}

func openRemoteStream(ctx context.Context, o remoteOptions, record func(string, []byte)) (*remoteStream, error) {
	source, err := session.Open(ctx, session.Target{Stream: o.stream, Region: o.region, Endpoint: o.endpoint})
	if err == nil && o.create {
		err = source.Create(ctx, localShards)
	}
	if err == nil {
		err = source.WaitActive(ctx)
	}
	if errors.Is(err, session.ErrNotFound) {
		return nil, cannot(err, "--create-stream creates it")
	}
	if err != nil {
		return nil, err
	}
	keys := source.Credentials
	s := &remoteStream{
		dest: destination{o.stream, o.endpoint, source.Region, sandbox.Credentials{
			AccessKeyID: keys.AccessKeyID, SecretAccessKey: keys.SecretAccessKey, SessionToken: keys.SessionToken,
		}},
		polls: make(chan session.Poll), done: make(chan struct{}),
	}
	// Reading outlives ctx: after an interruption the trial still ends in order.
	reading, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	ready := make(chan struct{})
	go func() {
		defer close(s.done)
		s.err = source.Read(reading, session.ReadOptions{
			Follow: true, IdleInterval: pollInterval, OnReady: func() { close(ready) }, OnPoll: s.polled, OnTrouble: s.trouble,
		}, func(r session.Record) error {
			record(r.PartitionKey, r.Data)
			return nil
		})
	}()
	select {
	case <-ready:
		return s, nil
	case <-s.done:
		err = s.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = s.close()
	return nil, err
}

func (s *remoteStream) polled(p session.Poll) {
	select {
	case s.polls <- p:
	default: // drain does not wait yet
	}
}

func (s *remoteStream) trouble(err error) {
	if err == nil {
		s.readError.Store(nil)
	} else {
		s.readError.Store(&err)
	}
}

func (s *remoteStream) destination() destination { return s.dest }

// drain returns when all events have arrived and another read of all shards brought no record, such as a duplicate.
// It also returns when no record has arrived for quietTime.
func (s *remoteStream) drain(ctx context.Context, complete func() bool) error {
	quiet := time.NewTimer(quietTime)
	defer quiet.Stop()
	failing := 0 // periods of quietTime in which reads failed and no record arrived
	for {
		select {
		case p := <-s.polls:
			if p.Records > 0 {
				failing = 0
				quiet.Reset(quietTime)
			} else if p.CaughtUp && complete() {
				return nil
			}
		case <-quiet.C:
			err := s.readError.Load()
			switch {
			case err == nil || complete(): // with occasional failures no round over the shards is clean
				return nil
			case failing >= failingPeriods:
				return fmt.Errorf("read the events back: %w", *err)
			}
			failing++
			quiet.Reset(quietTime)
		case <-s.done:
			return fmt.Errorf("read the events back: %w", s.err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// throttled is unknown for a remote stream.
func (s *remoteStream) throttled() int64 { return 0 }

func (s *remoteStream) close() error {
	s.cancel()
	<-s.done
	return nil
}
