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
	maxDepth    = 2        // Firehose can compress compressed records
	maxWindow   = 8 << 20  // of zstd
	maxRatio    = 1000     // of a member's content to its size
	ratioExempt = 32 << 20 // content up to this size may have any ratio: a line can be one character, repeated
)

var (
	errTooDeep = errors.New("it is compressed more than twice")
	errBomb    = errors.New("its content is more than 1,000 times its size")
)

// decompressor keeps its readers from one member to the next: an object of Firehose has thousands of members.
type decompressor struct {
	gzips [maxDepth]*gzip.Reader
	zstds [maxDepth]*zstd.Decoder
	inner [maxDepth]rewinder
}

func (d *decompressor) close() {
	for _, z := range d.zstds {
		if z != nil {
			z.Close()
		}
	}
}

// layer reads the decompressed content of a member. It keeps its own error in err, and its reader sees an end of file.
type layer struct {
	source     *source
	outer      *layer // nil if the member is in the input itself
	from       io.Reader
	size       func() int64 // the compressed bytes read so far
	n          int64        // the decompressed bytes read so far
	innerTotal int64        // the decompressed bytes of all members in it
	err        error
}

func (l *layer) Read(p []byte) (int, error) {
	if l.err != nil || l.source.ended() { // the source alone would notice late: a member's content may be 1,000 times its size
		return 0, io.EOF
	}
	n, err := l.from.Read(p)
	l.n += int64(n)
	if l.outer != nil {
		l.outer.innerTotal += int64(n)
	}
	switch {
	case err == io.EOF:
		return n, err
	case err != nil:
		l.err = describeError(err)
		return n, io.EOF
	case l.outer != nil && isBomb(l.outer.innerTotal, l.outer.size()):
		l.outer.err = errBomb // the ratios of both layers multiply
		l.err = errBomb
		return n, io.EOF
	case isBomb(l.n, l.size()):
		l.err = errBomb
		return n, io.EOF
	}
	return n, nil
}

func isBomb(content, size int64) bool { return content > ratioExempt && content > maxRatio*size }

// describeError maps the errors of the three decompressors to one text each.
func describeError(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errCut
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, zstd.ErrCRCMismatch):
		return errors.New("its checksum is wrong: events that were read from it may be damaged")
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
	s.members++
	if s.depth == maxDepth {
		s.tooDeep()
		return
	}
	where := fmt.Sprintf("%sgzip member %d", s.prefix, s.members)
	begins := s.from.at()
	z := s.gzips[s.depth]
	if z == nil {
		z = new(gzip.Reader)
		s.gzips[s.depth] = z
	}
	nested := false
	err := z.Reset(s.from.Reader) // flate is faster with a *bufio.Reader
	if err == nil {
		z.Multistream(false)
		nested, err = s.readMember(where, z, func() int64 { return s.from.at() - begins }, record.Gzip)
	}
	if err == nil || s.stopped {
		return
	}
	s.failAt(where, fmt.Errorf("gzip: %w", describeError(err)))
	if !nested { // if nested members were read, the search would find them again
		s.from.rewind(begins + 1)
	}
	s.nextGzip()
}

// nextGzip skips to the next ten bytes that look like the header of a gzip member.
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

// isGzipHeader reports whether head is a gzip header: https://www.rfc-editor.org/rfc/rfc1952#page-5
func isGzipHeader(head []byte) bool {
	if len(head) < 10 || string(head[:3]) != gzipMagic+"\x08" {
		return false
	}
	flags, level, system := head[3], head[8], head[9]
	return flags < 1<<5 && level <= 4 && level%2 == 0 && (system <= 13 || system == 0xff)
}

func (s *section) zstdFrame() {
	s.members++
	if s.depth == maxDepth {
		s.tooDeep()
		return
	}
	where := fmt.Sprintf("%szstd frame %d", s.prefix, s.members)
	in := &frame{from: s.from}
	z := s.zstds[s.depth]
	var err error
	if z == nil {
		// No limit of the frame's size is set: it is streamed.
		z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			panic("input: zstd: " + err.Error()) // cannot happen: the options are constant
		}
		s.zstds[s.depth] = z
	}
	if err = z.Reset(in); err == nil {
		_, err = s.readMember(where, z, func() int64 { return in.n }, record.Zstd)
	}
	if in.n == 0 { // no frame header follows the magic number: this is not a frame
		err = cmp.Or(err, errCut)
		_, _ = s.from.Discard(len(zstdMagic))
	}
	if err != nil {
		s.failAt(where, fmt.Errorf("zstd: %w", describeError(err)))
	}
	if !s.stopped {
		_, _ = io.Copy(io.Discard, in) // to the frame's end: its blocks have their lengths, even if their content is broken
	}
}

func (s *section) tooDeep() {
	s.fail(errTooDeep)
	_, _ = io.Copy(io.Discard, s.from)
}

// readMember reads the content of a member. nested reports whether that content has compressed members.
func (s *section) readMember(where string, from io.Reader, size func() int64, with record.Compression) (nested bool, err error) {
	l := &layer{source: s.source, outer: s.layer, from: from, size: size}
	inner := section{
		reader: s.reader, from: &s.inner[s.depth], compression: with, prefix: where + ", ", depth: s.depth + 1,
		piece: s.piece, layer: l,
	}
	inner.from.reset(l)
	inner.read()
	s.piece = inner.piece
	if !s.stopped {
		_, _ = io.Copy(io.Discard, l) // to where the next member begins
	}
	return inner.members > 0, l.err
}

// frame reads the bytes of one zstd frame, and no more: the headers of its blocks have their lengths.
type frame struct {
	from *rewinder
	n    int64
	left int  // unread bytes of the current header, block or checksum
	last bool // the current block is the last
	sum  bool // a checksum follows the last block
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

// next sets left to the size of the next header, block or checksum.
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
	if f.left = blockHeader + block>>3; block>>1&3 == 1 { // an RLE block: one byte, repeated
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
