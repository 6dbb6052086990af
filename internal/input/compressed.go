package input

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"kinesis-telemetry-extension/record"
)

const (
	maxDepth  = 2        // Firehose may compress what is compressed
	maxWindow = 8 << 20  // of zstd
	maxRatio  = 1000     // of what a member contains to its size
	anyRatio  = 32 << 20 // below that any ratio will do: one line of one character, repeated
)

var (
	errTooDeep = errors.New("it is compressed more than twice")
	errBomb    = errors.New("what it contains is more than 1,000 times its size")
)

// decompressor keeps readers from one member to the next: an object of Firehose has thousands.
type decompressor struct {
	gzips [maxDepth]*gzip.Reader
	zstds [maxDepth]*zstd.Decoder
	inner [maxDepth]tape
}

func (d *decompressor) close() {
	for _, z := range d.zstds {
		if z != nil {
			z.Close()
		}
	}
}

// layer is what a member contains, as it is decompressed. Its own errors are an end to those that read it.
type layer struct {
	source *source
	outer  *layer // nil: the member is in the input itself
	from   io.Reader
	size   func() int64 // of what was read of the member
	n      int64
	within int64 // what the members in it contain together
	err    error
}

func (l *layer) Read(p []byte) (int, error) {
	if l.err != nil || l.source.ended() { // a member may contain 1,000 times what the source is asked for
		return 0, io.EOF
	}
	n, err := l.from.Read(p)
	l.n += int64(n)
	if l.outer != nil {
		l.outer.within += int64(n)
	}
	switch {
	case err == io.EOF:
		return n, err
	case err != nil:
		l.err = plainly(err)
		return n, io.EOF
	case l.outer != nil && isBomb(l.outer.within, l.outer.size()):
		l.outer.err = errBomb // the ratios of both layers multiply
		l.err = errBomb
		return n, io.EOF
	case isBomb(l.n, l.size()):
		l.err = errBomb
		return n, io.EOF
	}
	return n, nil
}

func isBomb(contains, size int64) bool { return contains > anyRatio && contains > maxRatio*size }

// plainly says in one way what the readers say in several.
func plainly(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errCut
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, zstd.ErrCRCMismatch):
		return errors.New("its checksum is wrong: events that were read of it may not be as they were")
	case errors.As(err, new(flate.CorruptInputError)):
		return errors.New("it is broken")
	case errors.Is(err, gzip.ErrHeader):
		return errors.New("its header is broken")
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return errors.New("its window is larger than 8 MiB: compress it again without --long or --ultra")
	}
	return err
}

func (s *section) gzipMember() {
	s.parts++
	if s.depth == maxDepth {
		s.tooDeep()
		return
	}
	where := fmt.Sprintf("%sgzip member %d", s.within, s.parts)
	begins := s.from.at()
	z := s.gzips[s.depth]
	if z == nil {
		z = new(gzip.Reader)
		s.gzips[s.depth] = z
	}
	nested := false
	err := z.Reset(s.from.Reader) // flate knows it, and is faster with it
	if err == nil {
		z.Multistream(false)
		nested, err = s.contained(where, z, func() int64 { return s.from.at() - begins }, record.Gzip)
	}
	if err == nil || s.stopped {
		return
	}
	s.failAt(where, fmt.Errorf("gzip: %w", plainly(err)))
	if !nested { // else what is found could be in it, and was read
		s.from.rewind(begins + 1)
	}
	s.nextGzip()
}

// nextGzip goes to where another member begins, as far as ten bytes tell.
func (s *section) nextGzip() {
	for {
		chunk, err := s.chunk()
		if err != nil {
			return
		}
		at := bytes.IndexByte(chunk, gzipMagic[0])
		if at < 0 {
			_, _ = s.from.Discard(len(chunk))
			continue
		}
		_, _ = s.from.Discard(at)
		if head, _ := s.from.Peek(10); isGzipHeader(head) {
			return
		}
		_, _ = s.from.Discard(1)
	}
}

// isGzipHeader: https://www.rfc-editor.org/rfc/rfc1952#page-5
func isGzipHeader(head []byte) bool {
	if len(head) < 10 || string(head[:3]) != gzipMagic+"\x08" {
		return false
	}
	flags, level, system := head[3], head[8], head[9]
	return flags < 1<<5 && level <= 4 && level%2 == 0 && (system <= 13 || system == 0xff)
}

func (s *section) zstdFrame() {
	s.parts++
	if s.depth == maxDepth {
		s.tooDeep()
		return
	}
	where := fmt.Sprintf("%szstd frame %d", s.within, s.parts)
	in := &frame{from: s.from}
	z := s.zstds[s.depth]
	var err error
	if z == nil {
		// The size of a frame does not matter: it is streamed.
		z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			panic("input: zstd: " + err.Error()) // cannot be: the options are constant
		}
		s.zstds[s.depth] = z
	}
	if err = z.Reset(in); err == nil {
		_, err = s.contained(where, z, func() int64 { return in.n }, record.Zstd)
	}
	if in.n == 0 { // there is no header behind the magic number, so that it is none
		err = cmp.Or(err, errCut)
		_, _ = s.from.Discard(len(zstdMagic))
	}
	if err != nil {
		s.failAt(where, fmt.Errorf("zstd: %w", plainly(err)))
	}
	if !s.stopped {
		_, _ = io.Copy(io.Discard, in) // its blocks say where it ends, whatever is in them
	}
}

func (s *section) tooDeep() {
	s.fail(errTooDeep)
	_, _ = io.Copy(io.Discard, s.from)
}

// contained reads what a member contains. nested: that is compressed, too.
func (s *section) contained(where string, from io.Reader, size func() int64, with record.Compression) (nested bool, err error) {
	l := &layer{source: s.source, outer: s.layer, from: from, size: size}
	inner := section{reader: s.reader, from: &s.inner[s.depth], with: with, within: where + ", ", depth: s.depth + 1, piece: s.piece, layer: l}
	inner.from.reset(l)
	inner.read()
	s.piece = inner.piece
	if !s.stopped {
		_, _ = io.Copy(io.Discard, l) // to where the next member begins
	}
	return inner.parts > 0, l.err
}

// frame reads one frame of zstd: it says how long its blocks are.
type frame struct {
	from *tape
	n    int64
	left int  // of the block, or whatever is next
	last bool // the last block is being read
	sum  bool // a checksum follows it
	end  bool
}

func (f *frame) Read(p []byte) (int, error) {
	if f.left == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n, err := f.from.Read(p[:min(len(p), f.left)])
	f.left -= n
	f.n += int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next finds out how much there is to read.
func (f *frame) next() error {
	const blockHeader, checksum = 3, 4
	switch {
	case f.end:
		return io.EOF
	case f.n == 0:
		return f.header()
	case f.last:
		f.end = true
		if !f.sum {
			return io.EOF
		}
		f.left = checksum
		return nil
	}
	b, err := f.from.Peek(blockHeader)
	if err != nil {
		return io.ErrUnexpectedEOF
	}
	block := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
	f.last = block&1 == 1
	if f.left = blockHeader + block>>3; block>>1&3 == 1 { // one byte that is repeated
		f.left = blockHeader + 1
	}
	return nil
}

func (f *frame) header() error {
	head, _ := f.from.Peek(zstd.HeaderMaxSize)
	var h zstd.Header
	if err := h.Decode(head); err != nil {
		f.end = true
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	f.left = h.HeaderSize
	if h.Skippable {
		f.left += int(h.SkippableSize)
		f.end = true
		return nil
	}
	f.sum = h.HasCheckSum
	return nil
}
