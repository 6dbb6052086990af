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
	// quietTime is how long nothing new must arrive until what is missing counts as lost.
	quietTime = 5 * time.Second
	// failingPeriods of quietTime end the reading where reads fail: a stream that throttles recovers.
	failingPeriods = 6
	pollInterval   = time.Second
)

// remoteStream is a stream behind a Kinesis endpoint, read from where its shards were when it was opened.
type remoteStream struct {
	dest      destination
	cancel    context.CancelFunc
	polls     chan session.Poll     // without a reader they are dropped
	readError atomic.Pointer[error] // what keeps the stream from being read at the moment; nil: nothing
	done      chan struct{}         // closed when reading has ended
	err       error                 // why it ended; read after done
}

// remoteOptions name a stream (its name or ARN) and where it is.
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
		return nil, cannot(err, "--create-stream makes it")
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
	// Not bound to ctx: after an interruption the trial still ends in its own order.
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
	default: // nobody waits yet
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

// drain returns when everything has arrived and one more round over the shards brought nothing (a copy, say), or when
// nothing has come for some time.
func (s *remoteStream) drain(ctx context.Context, complete func() bool) error {
	quiet := time.NewTimer(quietTime)
	defer quiet.Stop()
	failing := 0 // periods of quietTime in which reads failed and nothing came
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
			case err == nil || complete(): // reads that fail now and then leave no round without one
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

// throttled is not known of a stream elsewhere.
func (s *remoteStream) throttled() int64 { return 0 }

func (s *remoteStream) close() error {
	s.cancel()
	<-s.done
	return nil
}
