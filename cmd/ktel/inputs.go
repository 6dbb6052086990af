package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"sync/atomic"

	"kinesis-telemetry-extension/internal/input"
)

// standardInput is the name of standard input on a command line.
const standardInput = "-"

// inputs are the files of a command line, or standard input.
type inputs struct {
	files []string
	stdin io.Reader
	size  int64 // of all files; -1 if unknown
	// beforeRead is called before each read, which may wait for input; it may be nil.
	beforeRead func() error
	// maxErrorsInARow is how many unreadable pieces in a row end the reading of a file; 0: no limit.
	maxErrorsInARow int
	read            atomic.Int64 // bytes so far
}

// openInputs finds out whether the files can be read before it reads any of them: a wrong name is a mistake on the
// command line.
func (a *app) openInputs(files []string, verb string) (*inputs, error) {
	in := &inputs{files: files, stdin: a.stdin}
	if len(files) == 0 {
		in.files = []string{standardInput}
		if stdin, ok := a.stdin.(*os.File); ok {
			if _, terminal := terminalWidth(stdin); terminal {
				return nil, usageError("no input: standard input is a terminal",
					fmt.Sprintf("name a file, as in 'ktel %s FILE', or pipe input into it", verb))
			}
		}
	}
	for _, name := range in.files {
		size, err := in.sizeOf(name)
		if err != nil {
			return nil, usageError(err.Error())
		}
		if size < 0 || in.size < 0 {
			in.size = -1
			continue
		}
		in.size += size
	}
	return in, nil
}

func (in *inputs) sizeOf(name string) (int64, error) {
	var info fs.FileInfo
	var err error
	if name == standardInput {
		stdin, ok := in.stdin.(*os.File)
		if !ok {
			return -1, nil
		}
		info, err = stdin.Stat()
	} else if info, err = os.Stat(name); err != nil || info.Mode().IsRegular() {
		// The first open of a pipe consumes its content, so only a regular file is tried.
		var file *os.File
		if file, err = os.Open(name); err != nil {
			return 0, err
		}
		defer func() { _ = file.Close() }()
		info, err = file.Stat()
	}
	switch {
	case err != nil:
		return 0, err
	case info.IsDir():
		return 0, fmt.Errorf("%s is a directory: name the files in it", name)
	case !info.Mode().IsRegular():
		return -1, nil
	}
	return info.Size(), nil
}

// events yields the events of all files. A piece that cannot be read is an *input.UnreadableError whose place starts
// with the file's name. Any other error is the last.
func (in *inputs) events(ctx context.Context) iter.Seq2[input.Event, error] {
	return func(yield func(input.Event, error) bool) {
		for _, name := range in.files {
			if !in.file(ctx, name, yield) {
				return
			}
		}
	}
}

// file yields the events of one file. It returns false to stop.
func (in *inputs) file(ctx context.Context, name string, yield func(input.Event, error) bool) bool {
	from, err := in.open(ctx, name)
	switch {
	case ctx.Err() != nil:
		yield(input.Event{}, fmt.Errorf("open %s: %w", name, ctx.Err()))
		return false
	case err != nil:
		return yield(input.Event{}, &input.UnreadableError{Where: name, Err: err})
	}
	defer func() { _ = from.Close() }()
	if name == standardInput {
		name = "standard input"
	}
	inARow := 0 // unreadable pieces
	for event, err := range input.Read(ctx, &countingReader{from, in}) {
		piece, unreadable := errors.AsType[*input.UnreadableError](err)
		switch {
		case unreadable:
			piece.Where = name + ": " + piece.Where
			if inARow++; inARow == in.maxErrorsInARow {
				piece.Err = fmt.Errorf("the last of %s in a row, the rest is skipped: %w", plural(inARow, "error"), piece.Err)
			}
		case err != nil:
			yield(event, fmt.Errorf("read %s: %w", name, err))
			return false
		default:
			inARow = 0
		}
		if !yield(event, err) {
			return false
		}
		if inARow > 0 && inARow == in.maxErrorsInARow {
			return true
		}
	}
	return true
}

// open opens a file. If it may make its reader wait, as a pipe does, the open and the reads end with ctx.
func (in *inputs) open(ctx context.Context, name string) (io.ReadCloser, error) {
	if name == standardInput {
		return interruptible(ctx, io.NopCloser(in.stdin)), nil
	}
	if info, err := os.Stat(name); err != nil || info.Mode().IsRegular() {
		return os.Open(name)
	}
	type opened struct {
		file *os.File
		err  error
	}
	pending := make(chan opened, 1)
	go func() {
		file, err := os.Open(name) // opening a pipe waits for a writer
		pending <- opened{file, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case o := <-pending:
		if o.err != nil {
			return nil, o.err
		}
		return interruptible(ctx, o.file), nil
	}
}

// reading reports how much of the files was read.
func (in *inputs) reading() reading {
	n := in.read.Load()
	return reading{done: n, whole: in.size, bytes: n}
}

// countingReader counts the bytes that are read.
type countingReader struct {
	from io.Reader
	in   *inputs
}

func (w *countingReader) Read(p []byte) (int, error) {
	if w.in.beforeRead != nil {
		if err := w.in.beforeRead(); err != nil {
			return 0, err
		}
	}
	n, err := w.from.Read(p)
	w.in.read.Add(int64(n))
	return n, err
}

// interruptible returns a reader that ends with ctx, even while from waits for input. That read cannot be cancelled: it
// ends with the process.
func interruptible(ctx context.Context, from io.ReadCloser) io.ReadCloser {
	reader, writer := io.Pipe()
	context.AfterFunc(ctx, func() { _ = writer.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{writer}, struct{ io.Reader }{from}, make([]byte, 256<<10))
		_ = writer.CloseWithError(err)
		_ = from.Close()
	}()
	return reader
}
