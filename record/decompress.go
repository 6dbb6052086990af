package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Limits of one record's decompressed data. Records of the extension are far below them. The ratio has no limit up to
// ratioExempt, more than any record of the extension has: zstd compresses a line of one repeated character to a ten thousandth.
const (
	maxDecompressed = 64 << 20
	maxRatio        = 1000
	ratioExempt     = 32 << 20
	maxZstdWindow   = 8 << 20
)

var (
	errTooLarge = errors.New("its data are too large: above 64 MiB, or above 1,000 times their compressed size")
	errCut      = errors.New("it is cut short")
)

// decompressedLimit returns the largest decompressed size that data of this size may have.
func decompressedLimit(compressed int) int {
	return min(maxDecompressed, max(ratioExempt, maxRatio*compressed))
}

const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
	// skippableMagic is the magic number of a skippable frame, which has no data, without its first byte, 0x50 to 0x5f.
	skippableMagic = "\x2a\x4d\x18"
)

// Decompress returns the decompressed data of a record, and the compression that they had. It joins the content of several
// concatenated members or frames, as Firehose writes records into one object. It returns uncompressed data unchanged. It
// decompresses at most 64 MiB, and above 32 MiB at most 1,000 times the size of data.
func Decompress(data []byte) ([]byte, Compression, error) {
	with := compressionOf(data)
	if with == Uncompressed {
		return data, with, nil
	}
	var plain []byte
	for part, err := range decompressed(data) {
		if err != nil {
			return nil, with, err
		}
		plain = append(plain, part.data...)
	}
	return plain, with, nil
}

// part is the content of one member or frame, or uncompressed data.
type part struct {
	with Compression
	data []byte
}

// decompressed yields the content of each member and frame, and any uncompressed data after them as one part.
func decompressed(data []byte) iter.Seq2[part, error] {
	return func(yield func(part, error) bool) {
		room := decompressedLimit(len(data))
		var d decompressor
		defer d.close()
		for len(data) > 0 {
			s := part{with: compressionOf(data)}
			size := len(data)
			var err error
			switch s.with {
			case Gzip:
				s.data, size, err = d.gunzip(data, room)
			case Zstd:
				if size, err = zstdFrame(data); err == nil {
					s.data, err = d.unzstd(data[:size], room)
				}
			case Uncompressed:
				s.data = data
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", s.with, err)
			}
			if !yield(s, err) || err != nil {
				return
			}
			if s.with != Uncompressed {
				room -= len(s.data)
			}
			data = data[size:]
		}
	}
}

func compressionOf(data []byte) Compression {
	switch {
	case hasPrefix(data, gzipMagic):
		return Gzip
	case hasPrefix(data, zstdMagic), len(data) > 4 && data[0]&0xf0 == 0x50 && hasPrefix(data[1:], skippableMagic):
		return Zstd
	}
	return Uncompressed
}

func hasPrefix(data []byte, prefix string) bool {
	return len(data) >= len(prefix) && string(data[:len(prefix)]) == prefix
}

// decompressor reuses its readers for the next member or frame: data may have thousands.
type decompressor struct {
	gzip *gzip.Reader
	zstd *zstd.Decoder
}

func (d *decompressor) close() {
	if d.zstd != nil {
		d.zstd.Close()
	}
}

// gunzip reads the member that data begins with. It returns the member's content and compressed size.
func (d *decompressor) gunzip(data []byte, room int) (plain []byte, size int, err error) {
	from := bytes.NewReader(data)
	if d.gzip == nil {
		d.gzip = new(gzip.Reader)
	}
	if err := d.gzip.Reset(from); err != nil {
		return nil, 0, readError(err)
	}
	d.gzip.Multistream(false)
	plain, err = readBounded(d.gzip, room)
	return plain, len(data) - from.Len(), err
}

// unzstd reads one frame.
func (d *decompressor) unzstd(frame []byte, room int) (plain []byte, err error) {
	if d.zstd == nil {
		d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderMaxMemory(maxDecompressed))
		if err != nil {
			panic("record: zstd: " + err.Error()) // cannot happen: the options are constant
		}
	}
	if err := d.zstd.Reset(bytes.NewReader(frame)); err != nil {
		return nil, readError(err)
	}
	return readBounded(d.zstd, room)
}

// readBounded reads to the end. It fails if that is more than room bytes.
func readBounded(from io.Reader, room int) ([]byte, error) {
	var plain bytes.Buffer
	_, err := plain.ReadFrom(io.LimitReader(from, int64(room)+1))
	switch {
	case err != nil:
		return nil, readError(err)
	case plain.Len() > room:
		return nil, errTooLarge
	}
	return plain.Bytes(), nil
}

// readError maps the errors of the two decompressors to one error each.
func readError(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errCut
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return errTooLarge
	}
	return err
}

// zstdFrame returns the size of the frame that data begins with, by the lengths in the headers of its blocks.
func zstdFrame(data []byte) (size int, err error) {
	if !hasPrefix(data, zstdMagic) {
		if len(data) < 8 {
			return 0, errCut
		}
		size = 8 + int(binary.LittleEndian.Uint32(data[4:]))
		if size > len(data) {
			return 0, errCut
		}
		return size, nil
	}
	var header zstd.Header
	if err := header.Decode(data); err != nil {
		return 0, readError(err)
	}
	const blockHeader, checksum = 3, 4
	for size = header.HeaderSize; ; {
		if size+blockHeader > len(data) {
			return 0, errCut
		}
		block := int(data[size]) | int(data[size+1])<<8 | int(data[size+2])<<16
		size += blockHeader
		if block>>1&3 == 1 { // an RLE block: one byte, repeated
			size++
		} else {
			size += block >> 3
		}
		if block&1 == 1 {
			break
		}
	}
	if header.HasCheckSum {
		size += checksum
	}
	if size > len(data) {
		return 0, errCut
	}
	return size, nil
}
