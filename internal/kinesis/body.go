package kinesis

import (
	"encoding/base64"
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
	// Data is retained only until Put returns.
	Data []byte
}

// size is what the record counts against the limits: data before base64, and key as it is sent.
func (r *Record) size() int {
	n := len(r.Data) + len(r.PartitionKey)
	if !utf8.ValidString(r.PartitionKey) {
		n = len(r.Data)
		for _, c := range r.PartitionKey {
			n += utf8.RuneLen(c)
		}
	}
	return n
}

// encodedBound is how many bytes the record takes in a body at most, unless its key is full of control characters.
func (r *Record) encodedBound() int {
	return base64.StdEncoding.EncodedLen(len(r.Data)) + 2*len(r.PartitionKey) + len(`{"Data":"","PartitionKey":""},`)
}

// appendBody writes the request that carries those records that batch names, in that order.
func appendBody(buf []byte, prefix string, records []Record, batch []int) []byte {
	buf = append(buf, prefix...)
	for i, r := range batch {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(buf, `{"Data":"`...)
		buf = base64.StdEncoding.AppendEncode(buf, records[r].Data)
		buf = append(buf, `","PartitionKey":"`...)
		buf = appendEscaped(buf, records[r].PartitionKey)
		buf = append(buf, `"}`...)
	}
	return append(buf, `]}`...)
}

// appendEscaped writes what stands between the quotes of a JSON string.
func appendEscaped(buf []byte, s string) []byte {
	const hex = "0123456789abcdef"
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			buf = utf8.AppendRune(buf, r) // U+FFFD where it is not UTF-8
			i += size
			continue
		}
		switch {
		case c == '"' || c == '\\':
			buf = append(buf, '\\', c)
		case c < ' ':
			buf = append(buf, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			buf = append(buf, c)
		}
		i++
	}
	return buf
}
