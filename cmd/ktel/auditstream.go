package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"sync"
	"time"

	"kinesis-telemetry-extension/internal/input"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/session"
	"kinesis-telemetry-extension/record"
)

// streamFlags are the flags that select a stream and a part of it.
type streamFlags struct{ region, endpoint, since, until string }

func (f *streamFlags) any() bool { return *f != streamFlags{} }

// window checks the flags and returns which part of the stream they select.
func (f *streamFlags) window(now time.Time) (o session.ReadOptions, err error) {
	if f.endpoint != "" {
		if _, err := kinesis.ParseEndpointURL(f.endpoint); err != nil { // the URL is not shown: it may contain a password
			return o, usageError(fmt.Sprintf("--endpoint-url: %v, without a user, a password, a query or a fragment", err))
		}
	}
	if o.Since, err = parseTime("since", f.since, now); err != nil {
		return o, err
	}
	if o.Until, err = parseTime("until", f.until, now); err != nil {
		return o, err
	}
	switch {
	case o.Since.After(now):
		return o, usageError(fmt.Sprintf("--since %q is in the future", f.since),
			"times without a zone are in UTC; it is now "+now.UTC().Format("15:04"))
	case !o.Until.IsZero() && !o.Until.After(o.Since):
		return o, usageError(fmt.Sprintf("--until %q is not after --since %q", f.until, f.since))
	}
	return o, nil
}

func (f *streamFlags) target(name string) session.Target {
	return session.Target{Stream: name, Region: f.region, Endpoint: f.endpoint}
}

// streamOf returns the stream that the arguments name, if they name one: a single argument that is neither a file nor a
// path, or no argument with flags that only a stream has.
func streamOf(args []string, f *streamFlags) (name string, ok bool, err error) {
	if len(args) == 0 && f.any() {
		return cmp.Or(os.Getenv("KINESIS_TELEMETRY_STREAM"), defaultStream), true, nil
	}
	if len(args) == 1 && args[0] != standardInput {
		_, missing := os.Stat(args[0])
		isPath := strings.ContainsAny(args[0], `/\`) && !strings.HasPrefix(args[0], "arn:")
		if errors.Is(missing, fs.ErrNotExist) && !isPath {
			return args[0], true, nil
		}
	}
	if f.any() {
		return "", false, usageError("--since, --until, --region and --endpoint-url are for streams, not for files")
	}
	return "", false, nil
}

// backlog is the content of a stream up to its current end.
type backlog struct {
	notes   io.Writer // gets messages
	stream  *session.Stream
	options session.ReadOptions
	now     func() time.Time // Kinesis's
	until   time.Time        // arrival time at which reading ends

	troubled bool // trouble was reported

	mu        sync.Mutex
	behind    map[string]time.Duration // distance of each unfinished shard from until
	maxBehind time.Duration            // the largest distance so far
	bytes     int64
}

func openBacklog(ctx context.Context, name string, f *streamFlags, now time.Time, notes io.Writer) (*backlog, error) {
	if _, err := f.window(now); err != nil {
		return nil, err
	}
	target := f.target(name)
	if err := target.Validate(); err != nil {
		return nil, usageError(err.Error())
	}
	stream, err := session.Open(ctx, target)
	if err == nil {
		err = stream.WaitActive(ctx)
	}
	if advised, ok := errors.AsType[*session.Error](err); ok && !strings.HasPrefix(name, "arn:") {
		return nil, cannot(err, append(advised.Hints, name+" is taken as the name of a stream: there is no such file")...)
	}
	if err != nil {
		return nil, err
	}
	options, err := f.window(stream.Now()) // Kinesis's clock sets arrival times
	if err != nil {
		return nil, err
	}
	b := &backlog{notes: notes, stream: stream, options: options, now: stream.Now, behind: make(map[string]time.Duration)}
	if b.until = stream.Now(); !options.Until.IsZero() && options.Until.Before(b.until) {
		b.until = options.Until
	}
	b.options.OnPoll, b.options.OnTrouble = b.polled, b.trouble
	return b, nil
}

// events yields the events of the stream, as inputs.events does for files.
func (b *backlog) events(ctx context.Context) iter.Seq2[input.Event, error] {
	return func(yield func(input.Event, error) bool) {
		stopped := errors.New("the caller stopped")
		err := b.stream.Read(ctx, b.options, func(r session.Record) error {
			b.count(len(r.Data))
			for line, err := range record.Unpack(r.Data) {
				if err != nil {
					err = &input.UnreadableError{Where: r.Shard + ", sequence number " + r.SequenceNumber, Err: err}
				}
				if !yield(input.Event{Line: line, Arrived: r.Arrival}, err) {
					return stopped
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, stopped) {
			yield(input.Event{}, err)
		}
	}
}

func (b *backlog) count(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes += int64(bytes)
}

func (b *backlog) polled(p session.Poll) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.Ended {
		delete(b.behind, p.Shard)
		return
	}
	b.behind[p.Shard] = max(0, p.Behind-b.now().Sub(b.until))
	b.maxBehind = max(b.maxBehind, b.behind[p.Shard])
}

// trouble reports once why the stream cannot be read, and once that it can be again. Reading retries meanwhile.
func (b *backlog) trouble(err error) {
	switch {
	case err == nil:
		_, _ = fmt.Fprintln(b.notes, "ktel: reading again")
	case !b.troubled:
		_, _ = fmt.Fprintf(b.notes, "ktel: %s; retrying\n", printable(err.Error()))
	}
	b.troubled = err != nil
}

// reading reports the progress of the shard that is furthest behind.
func (b *backlog) reading() reading {
	b.mu.Lock()
	defer b.mu.Unlock()
	var left time.Duration
	for _, behind := range b.behind {
		left = max(left, behind)
	}
	return reading{done: int64(b.maxBehind - left), whole: int64(b.maxBehind), bytes: b.bytes}
}
