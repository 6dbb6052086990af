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

// standardInput is how a command line names it.
const standardInput = "-"

// inputs are the files of a command line, or standard input.
type inputs struct {
	files []string
	stdin io.Reader
	size  int64 // of all files; -1 where that cannot be known
	// beforeRead is called before more is read, which may take as long as it likes; nil: nothing is.
	beforeRead func() error
	// maxErrorsInARow is how many pieces in a row may be unreadable until the rest of a file is left out; 0: all.
	maxErrorsInARow int
	read            atomic.Int64 // bytes
}

// openInputs finds out whether the files can be read before any of them is: a name that is wrong is a mistake of the command line.
func (a *app) openInputs(files []string, verb string) (*inputs, error) {
	in := &inputs{files: files, stdin: a.stdin}
	if len(files) == 0 {
		in.files = []string{standardInput}
		if stdin, ok := a.stdin.(*os.File); ok {
			if _, terminal := terminalWidth(stdin); terminal {
				return nil, usageError("there is nothing to read: standard input is a terminal",
					fmt.Sprintf("name a file, as in 'ktel %s FILE', or pipe something into it", verb))
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
		// Of a pipe the first open takes what was written, so only a file is tried.
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

// events yields the events of all files. What of them cannot be read is an *input.UnreadableError, whose place begins with the file's name;
// another error is the last.
func (in *inputs) events(ctx context.Context) iter.Seq2[input.Event, error] {
	return func(yield func(input.Event, error) bool) {
		for _, name := range in.files {
			if !in.file(ctx, name, yield) {
				return
			}
		}
	}
}

// file yields the events of one file and tells whether to go on.
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
	row := 0 // of pieces that cannot be read
	for event, err := range input.Read(ctx, &countingReader{from, in}) {
		piece, unreadable := errors.AsType[*input.UnreadableError](err)
		switch {
		case unreadable:
			piece.Where = name + ": " + piece.Where
			if row++; row == in.maxErrorsInARow {
				piece.Err = fmt.Errorf("the last of %s in a row, the rest is left out: %w", plural(row, "error"), piece.Err)
			}
		case err != nil:
			yield(event, fmt.Errorf("read %s: %w", name, err))
			return false
		default:
			row = 0
		}
		if !yield(event, err) {
			return false
		}
		if row > 0 && row == in.maxErrorsInARow {
			return true
		}
	}
	return true
}

// open opens a file. Of one that may make its reader wait, such as a pipe, both the open and the reads end with ctx.
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
		file, err := os.Open(name) // of a pipe it waits for a writer
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

// reading is how far the files are read.
func (in *inputs) reading() reading {
	n := in.read.Load()
	return reading{done: n, whole: in.size, bytes: n}
}

// countingReader counts what is read.
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

// interruptible is a reader that ends with ctx, even while from waits for something to read, which nothing can end. That read is left
// to the end of the process.
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
