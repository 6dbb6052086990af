package kinesis

import (
	"encoding/base64"
	"fmt"
	"unicode/utf8"
)

// Limits of PutRecords.
// https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html
const (
	// MaxRequestRecords is the most records of one request.
	MaxRequestRecords = 500
	// MaxRequestBytes is the default size of a request, data and keys. The API reference tells of 10 MiB, AWS's guide for
	// producers of 5 MB; what is at most this is safe everywhere.
	MaxRequestBytes = 5 << 20
	// MaxRecordBytes is the size of a record, data and key, that every stream takes.
	MaxRecordBytes = 1 << 20

	maxKeyRunes = 256
)

// Record is what Kinesis stores.
type Record struct {
	// PartitionKey is of 1 to 256 characters. What is not UTF-8 in it is sent as U+FFFD: JSON has no way to say it.
	PartitionKey string
	// Data is in pieces, for each of which but the last the length is a multiple of three. It is retained only until Put returns.
	Data [][]byte
}

// Size is what the record counts against the limits: data before base64, and key as it is sent.
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

// check tells why no stream with that limit takes the record; nil where nothing is wrong with it.
func (r *Record) check(limit int) *Error {
	var wrong string
	if n := utf8.RuneCountInString(r.PartitionKey); n == 0 || n > maxKeyRunes {
		wrong = fmt.Sprintf("a partition key must have 1 to %d characters, not %d", maxKeyRunes, n)
	} else if size := r.Size(); size > limit {
		wrong = fmt.Sprintf("a record of %d bytes with its key is above the limit of %d: "+
			"where the stream takes larger ones, set KINESIS_TELEMETRY_MAX_RECORD_BYTES", size, limit)
	}
	if wrong == "" {
		return nil
	}
	return &Error{Kind: KindInvalid, Permanent: true, text: wrong}
}

// makeBody writes the request that carries those records that batch names, in that order. It overwrites buf where that is large enough.
func makeBody(buf []byte, prefix string, records []Record, batch []int) []byte {
	need := len(prefix) + len("]}")
	for _, i := range batch { // more is needed for a key full of control characters
		need += base64.StdEncoding.EncodedLen(records[i].Size()) + len(records[i].PartitionKey) + len(`{"Data":"","PartitionKey":""},`)
	}
	if cap(buf) < need { // slices.Grow would copy what is in it
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

// appendEscaped writes what stands between the quotes of a JSON string, U+FFFD for what is not UTF-8.
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
