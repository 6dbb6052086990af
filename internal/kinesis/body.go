package kinesis

import (
	"encoding/base64"
	"fmt"
	"io"
	"unicode/utf8"
)

// Limits of PutRecords.
// https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html
const (
	// MaxRequestRecords is the limit of records in one request.
	MaxRequestRecords = 500
	// MaxRequestBytes is the default limit of a request's size, data and keys. The API reference documents 10 MiB, AWS's
	// guide for producers 5 MB. This size is safe everywhere.
	MaxRequestBytes = 5 << 20
	// MaxRecordBytes is the record size, data and key, that every stream accepts.
	MaxRecordBytes = 1 << 20

	maxKeyRunes = 256
)

// Record is one record of a PutRecords request.
type Record struct {
	// PartitionKey has 1 to 256 characters. Bytes that are not UTF-8 are sent as U+FFFD, because JSON cannot express them.
	PartitionKey string
	// Data is the content in pieces. The length of each piece except the last is a multiple of three. The Client retains
	// Data only until Put returns.
	Data [][]byte
}

// Size returns the size that counts against the limits: data before base64, plus the key as sent.
func (r *Record) Size() int {
	key := r.PartitionKey
	if !utf8.ValidString(key) {
		key = string([]rune(key))
	}
	size := len(key)
	for _, piece := range r.Data {
		size += len(piece)
	}
	return size
}

// check returns why a stream with that record limit would reject the record, or nil if it is valid.
func (r *Record) check(limit int) *Error {
	var wrong string
	if n := utf8.RuneCountInString(r.PartitionKey); n == 0 || n > maxKeyRunes {
		wrong = fmt.Sprintf("a partition key must have 1 to %d characters, not %d", maxKeyRunes, n)
	} else if size := r.Size(); size > limit {
		wrong = fmt.Sprintf("a record of %d bytes with its key is above the limit of %d: "+
			"if the stream accepts larger ones, set KINESIS_TELEMETRY_MAX_RECORD_BYTES", size, limit)
	}
	if wrong == "" {
		return nil
	}
	return &Error{Kind: KindInvalid, Permanent: true, text: wrong}
}

// body is the JSON of a request with the records whose indices are in batch, in that order. A reader encodes it piece
// by piece, while a piece is in the CPU's caches. The Client reads it twice, to sign it and to send it. Encoding twice
// costs less than writing a megabyte or more to memory and reading it back, and it needs no buffer of that size.
type body struct {
	prefix  string // up to the first record
	records []Record
	batch   []int
	size    int // bytes that a reader returns
}

const (
	beforeData = `{"Data":"`
	beforeKey  = `","PartitionKey":"`
	afterKey   = `"}`
	afterAll   = `]}`
)

func newBody(prefix string, records []Record, batch []int) *body {
	size := len(prefix) + len(afterAll) + max(len(batch)-1, 0) // and the commas
	key := make([]byte, 0, 64)
	for _, i := range batch {
		data := 0
		for _, piece := range records[i].Data {
			data += len(piece)
		}
		key = appendEscaped(key[:0], records[i].PartitionKey)
		size += len(beforeData) + base64.StdEncoding.EncodedLen(data) + len(beforeKey) + len(key) + len(afterKey)
	}
	return &body{prefix, records, batch, size}
}

// bodyReader reads a body.
type bodyReader struct {
	*body

	next  int      // index in batch of the record after the current one
	text  []byte   // the text before the current record's data; in buf
	piece []byte   // of the current record's data
	rest  [][]byte // the pieces after it
	buf   []byte
}

func (b *body) reader() *bodyReader {
	buf := append(make([]byte, 0, 128), b.prefix...)
	return &bodyReader{body: b, text: buf, buf: buf}
}

// Read fills p, except for up to three bytes.
func (r *bodyReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		space := (len(p) - n) / 4 * 3 // for bytes before base64
		switch {
		case len(r.text) > 0:
			copied := copy(p[n:], r.text)
			r.text = r.text[copied:]
			n += copied
		case len(r.piece) == 0 && !r.advance():
			if n == 0 {
				err = io.EOF
			}
			return n, err
		case len(r.text) > 0 || len(r.piece) == 0: // after advance
		case space > 0:
			n = len(appendBase64(p[:n], r.take(space)))
		case n > 0:
			return n, nil
		default: // p has room for less than four bytes
			r.buf = appendBase64(r.buf[:0], r.take(3))
			r.text = r.buf
		}
	}
	return n, nil
}

// take returns the next bytes of piece, at most limit.
func (r *bodyReader) take(limit int) (data []byte) {
	limit = min(limit, len(r.piece))
	data, r.piece = r.piece[:limit], r.piece[limit:]
	return data
}

// advance moves to the next piece, or to the text after the last one. It returns false at the end of the body.
func (r *bodyReader) advance() bool {
	if len(r.rest) > 0 {
		r.piece, r.rest = r.rest[0], r.rest[1:]
		return true
	}
	if r.next > len(r.batch) {
		return false
	}
	r.buf = r.buf[:0]
	if r.next > 0 {
		r.buf = append(r.buf, beforeKey...)
		r.buf = appendEscaped(r.buf, r.records[r.batch[r.next-1]].PartitionKey)
		r.buf = append(r.buf, afterKey...)
	}
	if r.next == len(r.batch) {
		r.buf = append(r.buf, afterAll...)
	} else {
		if r.next > 0 {
			r.buf = append(r.buf, ',')
		}
		r.buf = append(r.buf, beforeData...)
		r.rest = r.records[r.batch[r.next]].Data
	}
	r.text = r.buf
	r.next++
	return true
}

// appendEscaped appends s as the content of a JSON string, with U+FFFD for each byte that is not UTF-8.
func appendEscaped(buf []byte, s string) []byte {
	const hex = "0123456789abcdef"
	for _, r := range s {
		if r < ' ' {
			buf = append(buf, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
			continue
		}
		if r == '"' || r == '\\' {
			buf = append(buf, '\\')
		}
		buf = utf8.AppendRune(buf, r)
	}
	return buf
}
