package kinesis

import (
	"encoding/base64"
	"fmt"
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

// makeBody encodes a request with the records whose indices are in batch, in that order. It reuses buf if buf is large
// enough.
func makeBody(buf []byte, prefix string, records []Record, batch []int) []byte {
	need := len(prefix) + len("]}")
	for _, i := range batch { // a key full of control characters needs more
		r := &records[i]
		need += base64.StdEncoding.EncodedLen(r.Size()) + len(r.PartitionKey) + len(`{"Data":"","PartitionKey":""},`)
	}
	if cap(buf) < need { // slices.Grow would copy the old content
		buf = make([]byte, 0, need+need/16)
	}
	buf = append(buf[:0], prefix...)
	for n, i := range batch {
		if n > 0 {
			buf = append(buf, ',')
		}
		buf = append(buf, `{"Data":"`...)
		for _, piece := range records[i].Data {
			buf = appendBase64(buf, piece)
		}
		buf = append(buf, `","PartitionKey":"`...)
		buf = appendEscaped(buf, records[i].PartitionKey)
		buf = append(buf, `"}`...)
	}
	return append(buf, `]}`...)
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
