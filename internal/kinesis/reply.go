package kinesis

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"
)

// entry is the part of a reply about one record: stored, or an error. A malformed reply may have neither.
type entry struct {
	Stored  nonEmpty `json:"SequenceNumber"`
	Code    string   `json:"ErrorCode"`
	Message string   `json:"ErrorMessage"`
}

func (e entry) stored() bool { return e.Code == "" && bool(e.Stored) }

func (e entry) hasUnknownCode() bool { return e.Code != "" && ruleOf(0, e.Code).action == retryUnknown }

// nonEmpty reports that a JSON string is present and not empty. It saves the memory of 500 such strings.
type nonEmpty bool

// UnmarshalJSON implements json.Unmarshaler.
func (p *nonEmpty) UnmarshalJSON(value []byte) error {
	*p = len(value) > len(`""`) && value[0] == '"'
	return nil
}

var errReply = errors.New("the reply is incomplete or garbled")

// parseReply reads a successful reply of PutRecords into entries[:0].
func parseReply(reply []byte, entries []entry) ([]entry, error) {
	clear(entries[:cap(entries)]) // encoding/json does not reset members that the reply lacks
	wire := struct{ Records []entry }{entries[:0]}
	if err := json.Unmarshal(reply, &wire); err != nil {
		return entries[:0], fmt.Errorf("%w: %w", errReply, err)
	}
	return wire.Records, nil
}

// parseError reads the error's type and message from a reply whose status is not 200. A reply that is not from AWS,
// such as a proxy's HTML, has no type, and its text is the message.
// https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#operation-error-serialization
func parseError(header http.Header, body []byte) (code, message string) {
	var reply struct {
		Type    any    `json:"__type"`
		Code    any    `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(body, &reply); err != nil && reply.Message == "" {
		reply.Message = string(body)
	}
	code = header.Get("X-Amzn-Errortype")
	for _, candidate := range []any{reply.Code, reply.Type} {
		if text, ok := candidate.(string); ok && code == "" {
			code = text
		}
	}
	code, _, _ = strings.Cut(code, ":") // a URL may follow
	if i := strings.LastIndexByte(code, '#'); i >= 0 {
		code = code[i+1:] // a namespace may precede the code
	}
	return code, reply.Message
}

// oneLine makes text of unknown origin safe for a log line: short, without line breaks and control characters.
func oneLine(text string) string {
	const limit = 300
	text = strings.Join(strings.Fields(text[:min(len(text), 10*limit)]), " ")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '�'
		}
		return r
	}, text)
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}
