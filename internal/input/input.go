// Package input reads events of the extension from whatever somebody has them in: the data of records as they are or in base64, what `aws
// kinesis get-records` prints, the event of a Lambda function that reads a stream, and objects as Firehose writes them. What it is, the
// bytes tell, and may change from one piece to the next. An input is streamed: of gigabytes no more than a piece is held, 64 MiB at most.
package input

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"kinesis-telemetry-extension/record"
)

const maxPiece = 64 << 20 // of a line, a JSON value, a record: far more than Kinesis takes

// Event is one event.
type Event struct {
	record.Line
	// Arrived is when the stream got it; zero where the input does not say.
	Arrived time.Time
}

// UnreadableError is a piece that is no event. Reading goes on behind it.
type UnreadableError struct {
	Where string // such as "line 3"
	Err   error
}

func (u *UnreadableError) Error() string { return u.Where + ": " + u.Err.Error() }

func (u *UnreadableError) Unwrap() error { return u.Err }

// Read yields the events of an input, in order. What it cannot read is an *UnreadableError, and what is behind it follows; it wraps
// record.ErrForeign where others have written it, and nothing else is left out. Another error is one of the reader or of ctx, and the last. An
// event's memory is the consumer's until the next.
func Read(ctx context.Context, from io.Reader) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		source := &source{ctx: ctx, from: from}
		r := &reader{yield: yield, source: source}
		defer r.close()
		top := section{reader: r, from: new(tape), with: record.Uncompressed}
		top.from.reset(source)
		top.read()
		if source.err != nil && !r.stopped {
			yield(Event{}, source.err)
		}
	}
}

// source keeps the error of the input itself apart from those of its content.
type source struct {
	ctx  context.Context //nolint:containedctx // of the loop that reads
	from io.Reader
	err  error
}

// ended tells whether nothing more is read: after an error, and when the context ends.
func (s *source) ended() bool {
	if s.err == nil {
		s.err = s.ctx.Err()
	}
	return s.err != nil
}

func (s *source) Read(p []byte) (int, error) {
	if s.ended() {
		return 0, io.EOF
	}
	n, err := s.from.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
		return n, io.EOF
	}
	return n, err
}

// reader is what all sections of an input share.
type reader struct {
	yield   func(Event, error) bool
	stopped bool
	source  *source
	records int // of JSON documents
	decompressor
}

func (r *reader) emit(event Event, err error) {
	if !r.stopped {
		r.stopped = !r.yield(event, err)
	}
}

// unpack yields the events of a record, or of several in a row.
func (r *reader) unpack(where string, data []byte, arrived time.Time, with record.Compression) {
	for line, err := range record.Unpack(data) {
		if line.Compression == record.Uncompressed {
			line.Compression = with
		}
		if err != nil {
			err = &UnreadableError{where, err}
		}
		if r.emit(Event{line, arrived}, err); r.stopped {
			return
		}
	}
}

// section is the input, or what a compressed member of it contains.
type section struct {
	*reader
	from       *tape
	with       record.Compression
	within     string // "gzip member 3, "
	depth      int    // of compression
	line       int    // that is read, from 0
	parts      int    // members and frames so far
	piece      []byte
	aggregates int    // aggregated records so far
	layer      *layer // what a member contains; nil: the input itself
}

// place says where in the input a piece is.
func (s *section) place() string { return fmt.Sprintf("%sline %d", s.within, s.line+1) }

func (s *section) fail(err error) { s.failAt(s.place(), err) }

func (s *section) failAt(where string, err error) {
	if s.source.err == nil && (s.layer == nil || s.layer.err == nil) { // else it is cut because of that, which is told itself
		s.emit(Event{}, &UnreadableError{where, err})
	}
}

const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
	// A skippable frame of zstd begins with a byte 0x50 to 0x5f and these.
	skippableMagic = "\x2a\x4d\x18"
)

func (s *section) read() {
	for !s.stopped {
		head, err := s.skipSpace()
		if err != nil {
			return
		}
		switch {
		case bytes.HasPrefix(head, []byte(gzipMagic)):
			s.gzipMember()
		case bytes.HasPrefix(head, []byte(zstdMagic)), len(head) == 4 && head[0]&0xf0 == 0x50 && string(head[1:]) == skippableMagic:
			s.zstdFrame()
		case string(head) == kplMagic:
			s.aggregated()
		case head[0] == '[':
			s.document()
		case head[0] == '{':
			s.object()
		default:
			s.text()
		}
	}
}

// skipSpace goes to the next piece and returns up to four bytes of it.
func (s *section) skipSpace() ([]byte, error) {
	for {
		head, err := s.from.Peek(1)
		if err != nil {
			return nil, err
		}
		switch head[0] {
		case '\n':
			s.line++
		case ' ', '\t', '\r', 0xef, 0xbb, 0xbf: // a byte order mark, as Windows writes it
		default:
			head, _ = s.from.Peek(4)
			return head, nil
		}
		_, _ = s.from.Discard(1)
	}
}

var (
	errTooLong = errors.New("it is longer than 64 MiB: no event or record is")
	errCut     = errors.New("it is cut short")
)

// object reads what begins with a brace: an event, an envelope of CloudWatch Logs, or a JSON document with records.
func (s *section) object() {
	name, spread := s.firstMember()
	if isDocument(name) {
		s.document()
		return
	}
	where := s.place()
	value, err := s.value(spread)
	if err != nil {
		s.failAt(where, err)
		s.skipLine()
		return
	}
	if name == "messageType" {
		s.unpack(where, value, time.Time{}, s.with)
		return
	}
	line, err := record.ParseEvent(value)
	if err != nil {
		s.failAt(where, fmt.Errorf("not an event: %w", err))
		return
	}
	line.Format, line.Compression = record.NDJSON, s.with
	s.emit(Event{Line: line}, nil)
}

// firstMember is the name of the first member of the object that begins here. spread: the object is written over several lines, as people
// read it. It looks no further than it must: a program that pipes events in one by one has written no more yet.
func (s *section) firstMember() (name string, spread bool) {
	const step, most = 16, 512
	for n := step; ; n += step {
		head, err := s.from.Peek(n)
		name, spread, ok := firstMember(head)
		if ok || err != nil || n >= most {
			return name, spread
		}
	}
}

// firstMember is ok where head has the whole name, or there is none.
func firstMember(head []byte) (name string, spread, ok bool) {
	rest := bytes.TrimLeft(head[1:], " \t\r\n")
	spread = bytes.IndexByte(head[:len(head)-len(rest)], '\n') >= 0
	if len(rest) == 0 || rest[0] != '"' {
		return "", spread, len(rest) > 0
	}
	content, _, ok := bytes.Cut(rest[1:], []byte{'"'})
	if !ok {
		return "", spread, false
	}
	return string(content), spread, true
}

// text reads a line that is neither JSON nor compressed: base64 of records, one or several, or nothing of ours.
func (s *section) text() {
	where := s.place()
	line, err := s.textLine()
	if err != nil {
		s.failAt(where, err)
		s.skipLine()
		return
	}
	switch records := s.base64(line); {
	case records != nil:
		for _, data := range records {
			if s.unpack(where, data, time.Time{}, s.with); s.stopped {
				return
			}
		}
	case isBinary(line):
		var what error
		for _, err := range record.Unpack(line) { // it knows more of them by name
			what = err
			break
		}
		s.failAt(where, fmt.Errorf("%v; the rest is left out", what)) //nolint:errorlint // what is left out may be ours
		_, _ = io.Copy(io.Discard, s.from)
	default:
		s.failAt(where, fmt.Errorf("%w: text, %.40q", record.ErrForeign, line))
	}
}

func isBinary(line []byte) bool {
	for _, c := range line[:min(len(line), 256)] {
		if c < ' ' && c != '\t' && c != '\r' || c == 0x7f {
			return true
		}
	}
	return false
}
