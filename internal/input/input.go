// Package input reads the extension's events from files and pipes: the data of records, plain or in base64, the output of
// `aws kinesis get-records`, the event of a Lambda function that reads a stream, and S3 objects that Firehose writes. It
// detects each kind by its bytes; one input may have several. It streams an input of any size and buffers one piece of at most
// 64 MiB.
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

const maxPiece = 64 << 20 // the size of a line, a JSON value or a record: far above the limits of Kinesis

// Event is one event.
type Event struct {
	record.Line
	// Arrived is when the event arrived in the stream; zero if the input does not have that time.
	Arrived time.Time
}

// UnreadableError reports a piece that is not an event. Reading continues after it.
type UnreadableError struct {
	Where string // such as "line 3"
	Err   error
}

func (u *UnreadableError) Error() string { return u.Where + ": " + u.Err.Error() }

func (u *UnreadableError) Unwrap() error { return u.Err }

// Read yields the events of an input, in order. A piece that it cannot read is an *UnreadableError, and the pieces after it
// follow. The error wraps record.ErrForeign if another writer wrote the piece and no event of the extension was skipped. Any
// other error comes from the reader or from ctx, and is the last. An event's memory is valid until the next event.
func Read(ctx context.Context, from io.Reader) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		source := &source{ctx: ctx, from: from}
		r := &reader{yield: yield, source: source}
		defer r.close()
		top := section{reader: r, from: new(rewinder), compression: record.Uncompressed}
		top.from.reset(source)
		top.read()
		if source.err != nil && !r.stopped {
			yield(Event{}, source.err)
		}
	}
}

// source separates an error of the input itself from the errors of its content.
type source struct {
	ctx  context.Context //nolint:containedctx // of the loop that reads
	from io.Reader
	err  error
}

// ended reports whether reading has ended, by an error or by the context.
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

// reader is the state that all sections of an input share.
type reader struct {
	yield   func(Event, error) bool
	stopped bool
	source  *source
	records int // in JSON documents, so far
	decompressor
}

func (r *reader) emit(event Event, err error) {
	if !r.stopped {
		r.stopped = !r.yield(event, err)
	}
}

// unpack yields the events of one record, or of several concatenated records.
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

// section is the input itself, or the content of a compressed member of it.
type section struct {
	*reader
	from        *rewinder
	compression record.Compression
	prefix      string // of each place: "gzip member 3, "
	depth       int    // the number of compressions around it
	line        int    // the current line, from 0
	members     int    // gzip members and zstd frames so far
	piece       []byte
	aggregates  int    // aggregated records so far
	layer       *layer // the decompressed member; nil for the input itself
}

// place returns the place of the current piece in the input.
func (s *section) place() string { return fmt.Sprintf("%sline %d", s.prefix, s.line+1) }

func (s *section) fail(err error) { s.failAt(s.place(), err) }

func (s *section) failAt(where string, err error) {
	// After an error of the input or of the layer the piece is cut short for that reason, and that error is reported.
	if s.source.err == nil && (s.layer == nil || s.layer.err == nil) {
		s.emit(Event{}, &UnreadableError{where, err})
	}
}

const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
	// A skippable frame of zstd begins with a byte from 0x50 to 0x5f, and these three bytes follow.
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

// skipSpace skips to the next piece and returns up to four bytes of it.
func (s *section) skipSpace() ([]byte, error) {
	for {
		head, err := s.from.Peek(1)
		if err != nil {
			return nil, err
		}
		switch head[0] {
		case '\n':
			s.line++
		case ' ', '\t', '\r', 0xef, 0xbb, 0xbf: // the last three are the byte order mark that Windows writes
		default:
			head, _ = s.from.Peek(4)
			return head, nil
		}
		_, _ = s.from.Discard(1)
	}
}

var (
	errTooLong = errors.New("it is longer than 64 MiB: no event or record is so long")
	errCut     = errors.New("it is cut short")
)

// object reads a JSON object: an event, an envelope of CloudWatch Logs, or a document with records.
func (s *section) object() {
	name, multiline := s.firstMember()
	if isDocument(name) {
		s.document()
		return
	}
	where := s.place()
	value, err := s.value(multiline)
	if err != nil {
		s.failAt(where, err)
		s.skipLine()
		return
	}
	if name == "messageType" {
		s.unpack(where, value, time.Time{}, s.compression)
		return
	}
	line, err := record.ParseEvent(value)
	if err != nil {
		s.failAt(where, fmt.Errorf("not an event: %w", err))
		return
	}
	line.Format, line.Compression = record.NDJSON, s.compression
	s.emit(Event{Line: line}, nil)
}

// firstMember returns the name of the first member of the object that begins here, and whether the object has a line end
// before that name, as in indented JSON. It reads in small steps: a program that pipes events one by one may have written no
// more bytes yet.
func (s *section) firstMember() (name string, multiline bool) {
	const step, most = 16, 512
	for n := step; ; n += step {
		head, err := s.from.Peek(n)
		name, multiline, ok := firstMember(head)
		if ok || err != nil || n >= most {
			return name, multiline
		}
	}
}

// firstMember sets ok if head has the whole name, or if there is none.
func firstMember(head []byte) (name string, multiline, ok bool) {
	rest := bytes.TrimLeft(head[1:], " \t\r\n")
	multiline = bytes.IndexByte(head[:len(head)-len(rest)], '\n') >= 0
	if len(rest) == 0 || rest[0] != '"' {
		return "", multiline, len(rest) > 0
	}
	content, _, ok := bytes.Cut(rest[1:], []byte{'"'})
	if !ok {
		return "", multiline, false
	}
	return string(content), multiline, true
}

// text reads a line that is neither JSON nor compressed: base64 of one or several records, or another writer's text.
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
			if s.unpack(where, data, time.Time{}, s.compression); s.stopped {
				return
			}
		}
	case isBinary(line):
		var kind error
		for _, err := range record.Unpack(line) { // its error names the kind of data
			kind = err
			break
		}
		// The error does not wrap ErrForeign: the rest may have events of the extension.
		s.failAt(where, fmt.Errorf("%v; the rest is skipped", kind)) //nolint:errorlint // see above
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
