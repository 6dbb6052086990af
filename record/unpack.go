package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
)

// Line is one event read back from the stream. A member that is absent is its zero value.
type Line struct {
	Time      string          `json:"time"`
	Type      string          `json:"type"`
	Record    json.RawMessage `json:"record"` // the bytes that Lambda posted, where the event is not truncated
	RequestID string          `json:"requestId"`
	Seq       uint64          `json:"seq"`
	Source    SourceFields    `json:"source"`
	// Truncated is the size of the record as Lambda posted it; then Record is a string with the beginning of its JSON text.
	Truncated int `json:"truncated"`
}

// Unpack reads the data of one Kinesis record in either format, in order: lines, or one object without a line end. An
// event that cannot be read is yielded as an error that names its line, and the ones behind it follow.
func Unpack(data []byte) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		number := 0
		for raw := range bytes.Lines(data) {
			number++
			raw = bytes.TrimSuffix(raw, []byte("\n"))
			var line Line
			err := json.Unmarshal(raw, &line)
			if err != nil {
				err = fmt.Errorf("line %d of the record is not an event: %w", number, err)
			}
			if !yield(line, err) {
				return
			}
		}
	}
}
