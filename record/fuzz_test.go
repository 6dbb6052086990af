package record

import (
	"bytes"
	stdgzip "compress/gzip"
	"crypto/md5"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// Any protobuf message of an aggregated record is read to an end, and an encoded event is decoded unchanged.
func FuzzKPL(f *testing.F) {
	var encoder KPLEncoder
	encoder.Begin(nil, "key")
	encoder.Add([]byte(`{"a":1}`))
	encoder.Add([]byte(`{"b":2}`))
	good := encoder.End()
	f.Add(good[len(kplMagic) : len(good)-md5.Size])
	f.Add([]byte("\x1a\x02\x08\x00"))
	f.Add([]byte("\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, message []byte) {
		sum := md5.Sum(message)
		data := append(append([]byte(kplMagic), message...), sum[:]...)
		total := 0
		for raw, err := range kplEvents(data) {
			if err == nil {
				total += len(raw)
			}
		}
		if total > len(message) {
			t.Fatalf("%d bytes of %d", total, len(message))
		}
		for range Unpack(data) {
		}
		line := bytes.TrimSuffix(message, newline)
		encoder.Begin(nil, string(message))
		encoder.Add(message)
		for raw, err := range kplEvents(encoder.End()) {
			if err != nil || !bytes.Equal(raw, line) {
				t.Fatalf("%q, %v; want %q", raw, err, line)
			}
		}
	})
}

// Each event of any envelope is JSON and has the number in its id.
func FuzzEnvelope(f *testing.F) {
	const head = `{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"/aws/lambda/f",` +
		`"subscriptionFilters":["` + subscriptionFilter + `"],"logEvents":[`
	f.Add(head + `{"id":"40040024614512148987126934461970495147237668266236877918","timestamp":1795456800123,"message":"x"}]}`)
	f.Add(head + `{"id":"00000000000000000000000000000000000000000000000000000000","timestamp":0,` +
		`"message":"{\"time\":\"\",\"type\":\"\",\"record\":0}"}]}`)
	f.Add(`{"messageType":"CONTROL_MESSAGE"}`)
	f.Add(head + `1,"",{},[],null]}`)
	f.Fuzz(func(t *testing.T, text string) {
		for line, err := range Unpack([]byte(text)) {
			if err != nil || line.Format != CloudWatch {
				continue
			}
			if !json.Valid(line.Raw) || !json.Valid(line.Record) {
				t.Fatalf("%s: %+v", text, line)
			}
			var event logEvent
			_ = json.Unmarshal(line.Raw, &event)
			id := appendEventID(nil, event.Timestamp, line.Seq, instanceBits(line.Source.Instance))
			if line.Source.Instance != "" && string(id) != event.ID {
				t.Fatalf("%s is %d of %s, whose id is %s", event.ID, line.Seq, line.Source.Instance, id)
			}
		}
	})
}

// The cursor finds the same members as encoding/json.
func FuzzMembers(f *testing.F) {
	f.Add(`{"a":"x\\","b" : [1,{"c":"]"}] ,"d":null,"e":-1.5e3}`)
	f.Add(`{"a\"b":{}}`)
	f.Add(`{ }`)
	f.Fuzz(func(t *testing.T, text string) {
		rest := members([]byte(text))
		for n := 0; ; n++ { // the cursor reaches an end of any text
			if _, _, ok := rest.next(); !ok {
				break
			}
			if n > len(text) {
				t.Fatalf("%q has no end", text)
			}
		}
		var want map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &want) != nil || want == nil {
			t.Skip()
		}
		got := make(map[string]json.RawMessage)
		for rest := members([]byte(text)); ; {
			name, value, ok := rest.next()
			if !ok {
				break
			}
			var key string
			if err := json.Unmarshal([]byte(`"`+string(name)+`"`), &key); err != nil {
				t.Fatalf("%s: name %s", text, name)
			}
			got[key] = value
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %q, want %q", text, got, want)
		}
		for name, value := range want {
			if !bytes.Equal(got[name], value) {
				t.Fatalf("%s: %s is %s, want %s", text, name, got[name], value)
			}
		}
	})
}

// A line of text is unchanged in CloudWatch, and ends in a line end.
func FuzzText(f *testing.F) {
	f.Add("x\n")
	f.Add(`\n`)
	f.Add(`\` + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		encoded, err := json.Marshal(text)
		if err != nil {
			t.Skip()
		}
		var want string
		_ = json.Unmarshal(encoded, &want) // text, with invalid UTF-8 replaced
		for _, test := range []struct {
			message []byte
			want    string
		}{
			{appendText([]byte{'"'}, encoded[1:len(encoded)-1]), strings.TrimSuffix(want, "\n") + "\n"},
			{appendQuoted([]byte{'"'}, []byte(want)), want},
		} {
			var got string
			if err := json.Unmarshal(append(test.message, '"'), &got); err != nil || got != test.want {
				t.Fatalf("%q, %v; want %q", got, err, test.want)
			}
		}
	})
}

// Concatenated members and frames are decompressed as by the decoders of compress/gzip and zstd.
func FuzzDecompress(f *testing.F) {
	for _, with := range []Compression{Gzip, Zstd} {
		c := NewCompressor(with)
		data := c.Append(nil, [][]byte{[]byte("some data, some data")})
		f.Add(data)
		f.Add(c.Append(data, [][]byte{bytes.Repeat([]byte("x"), 200_000)}))
	}
	f.Add([]byte("\x50\x2a\x4d\x18\x01\x00\x00\x00x\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00"))
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(64<<20), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderConcurrency(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, with, err := Decompress(data)
		if err != nil || with == Uncompressed {
			return
		}
		var want []byte
		if with == Zstd {
			want, err = decoder.DecodeAll(data, nil)
		} else if reader, e := stdgzip.NewReader(bytes.NewReader(data)); e == nil {
			want, err = io.ReadAll(reader)
		}
		if err == nil && !bytes.Equal(got, want) { // they fail if data of another kind follow
			t.Fatalf("%d bytes, want %d", len(got), len(want))
		}
	})
}
