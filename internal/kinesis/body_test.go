package kinesis

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
)

// wireRecord and wireRequest are a request as encoding/json decodes it.
type wireRecord struct {
	Data         []byte
	PartitionKey string
}

type wireRequest struct {
	StreamName, StreamARN string
	Records               []wireRecord
}

func decodeRequest(t testing.TB, body []byte) wireRequest {
	t.Helper()
	var r wireRequest
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	return r
}

// readBody reads a body, step bytes at a time. Each read must return data, and must not write after it.
func readBody(t *testing.T, b *body, step int) (encoded []byte) {
	t.Helper()
	buf := bytes.Repeat([]byte{0xff}, step+1)
	for r := b.reader(); ; {
		n, err := r.Read(buf[:step])
		if errors.Is(err, io.EOF) && n == 0 {
			return encoded
		}
		if err != nil || n == 0 || n < step-3 && len(encoded)+n < b.size || bytes.Count(buf[n:], []byte{0xff}) < step+1-n {
			t.Fatalf("a read of %d of %d bytes at %d: %q, %v", n, step, len(encoded), buf, err)
		}
		encoded = append(encoded, buf[:n]...)
		copy(buf, bytes.Repeat([]byte{0xff}, step))
	}
}

// encoding/json decodes a body to the records that were encoded, and Size is their size.
func FuzzBody(f *testing.F) {
	f.Add("key", []byte("data"), "other", []byte{})
	f.Add("quote\" slash\\ \x00\x1f\x7f\n\u2028\u00e9\U0001f600", []byte{0, 255}, "\xff\xc0bad\xed\xa0\x80", []byte("x"))
	var long []byte // more than a read returns, with every byte
	for i := range 5000 {
		long = append(long, byte(i*i>>4))
	}
	f.Add("key", long, "other", long[1:])
	f.Fuzz(func(t *testing.T, key1 string, data1 []byte, key2 string, data2 []byte) {
		cut := len(data1) / 2 / 3 * 3
		records := []Record{{key1, [][]byte{data1[:cut], data1[cut:]}}, {"left out", nil}, {key2, [][]byte{data2}}}
		batch := []int{0, 2}
		prefix := `{"StreamName":"logs","Records":[`
		body := newBody(prefix, records, batch)
		encoded := readBody(t, body, 4096)
		if len(encoded) != body.size {
			t.Errorf("%d bytes, %d were announced", len(encoded), body.size)
		}
		for _, step := range []int{1, 2, 3, 5, 29} {
			if again := readBody(t, body, step); !bytes.Equal(again, encoded) {
				t.Errorf("read %d bytes at a time: %q, want %q", step, again, encoded)
			}
		}
		got := decodeRequest(t, encoded)
		if got.StreamName != "logs" || len(got.Records) != 2 {
			t.Fatalf("got %+v", got)
		}
		for i, r := range batch {
			// Each byte that is not UTF-8 becomes one U+FFFD.
			if want := string([]rune(records[r].PartitionKey)); got.Records[i].PartitionKey != want {
				t.Errorf("key %q became %q", records[r].PartitionKey, got.Records[i].PartitionKey)
			}
			if !bytes.Equal(got.Records[i].Data, bytes.Join(records[r].Data, nil)) {
				t.Errorf("data %q became %q", records[r].Data, got.Records[i].Data)
			}
			size := len(got.Records[i].Data) + len(got.Records[i].PartitionKey)
			if records[r].Size() != size {
				t.Errorf("the size of %q is %d, as sent it is %d", records[r].PartitionKey, records[r].Size(), size)
			}
		}
	})
}
