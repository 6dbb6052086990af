package record_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kinesis-telemetry-extension/record"
)

var update = flag.Bool("update", false, "write the vectors")

const vectorsDir = "testdata/vectors"

// manifest is vectors.json.
type manifest struct {
	Source    record.SourceFields `json:"source"`
	Owner     string              `json:"owner"`
	LogGroup  string              `json:"logGroup"`
	LogStream string              `json:"logStream"`
	Vectors   []vector            `json:"vectors"`
}

// vector is one record of the events, or several concatenated copies of it.
type vector struct {
	File        string             `json:"file"`
	Format      record.Format      `json:"format"`
	Compression record.Compression `json:"compression"`
	LogFormat   string             `json:"logFormat"`
	Events      string             `json:"events"`
	Event       *int               `json:"event,omitempty"`    // the index of the only event: the format json
	Times       int                `json:"times"`              // the number of copies
	Messages    string             `json:"messages,omitempty"` // the file of the messages of CloudWatch's log events
}

type vectorEvent struct {
	Raw       string `json:"raw"`
	RequestID string `json:"requestId"`
	Seq       uint64 `json:"seq"`
}

func readJSON(t testing.TB, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(vectorsDir, name))
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// lines returns the vector's events as the stream has them.
func (v *vector) lines(t testing.TB, m *manifest) (lines [][]byte) {
	var events []vectorEvent
	readJSON(t, v.Events, &events)
	if v.Event != nil {
		events = events[*v.Event : *v.Event+1]
	}
	source := record.NewSource(m.Source)
	for _, e := range events {
		line := record.AppendEvent(nil, &record.Event{Raw: []byte(e.Raw), RequestID: e.RequestID, Seq: e.Seq, Source: source})
		lines = append(lines, append(line, '\n'))
	}
	return lines
}

// pack returns the vector's record, or its data before compression.
func (v *vector) pack(t testing.TB, m *manifest, compress bool) (data []byte) {
	lines := v.lines(t, m)
	switch v.Format {
	case record.CloudWatch:
		encoder := record.CloudWatchEncoder{Owner: m.Owner, LogGroup: m.LogGroup, JSONLogs: v.LogFormat == "JSON"}
		encoder.Begin(nil, m.Source.Instance, m.LogStream)
		for _, line := range lines {
			encoder.Add(line)
		}
		data = encoder.End()
		if compress {
			return data
		}
		data, _, err := record.Decompress(data)
		if err != nil {
			t.Fatal(err)
		}
		return data
	case record.KPL:
		var encoder record.KPLEncoder
		encoder.Begin(nil, m.Source.Instance)
		for _, line := range lines {
			encoder.Add(line)
		}
		data = encoder.End()
	case record.JSON:
		data = bytes.TrimSuffix(lines[0], []byte("\n"))
	default:
		data = bytes.Join(lines, nil)
	}
	if compress && v.Compression != record.Uncompressed {
		data = record.NewCompressor(v.Compression).Append(nil, [][]byte{data})
	}
	return data
}

// The encoders write every vector, and Unpack reads it back. The data are compared before compression, which may differ from
// one version of a compressor to the next.
func TestVectors(t *testing.T) {
	var m manifest
	readJSON(t, "vectors.json", &m)
	for _, v := range m.Vectors {
		t.Run(v.File, func(t *testing.T) {
			path := filepath.Join(vectorsDir, v.File)
			if *update {
				if err := os.WriteFile(path, bytes.Repeat(v.pack(t, &m, true), v.Times), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			plain, with, err := record.Decompress(data)
			if want := bytes.Repeat(v.pack(t, &m, false), v.Times); err != nil || with != v.Compression || !bytes.Equal(plain, want) {
				t.Fatalf("%s\nwant %s\n%s, %v", plain, want, with, err)
			}
			checkVector(t, &m, &v, data)
		})
	}
}

func checkVector(t *testing.T, m *manifest, v *vector, data []byte) {
	lines := v.lines(t, m)
	var messages []string
	n := 0
	for line, err := range record.Unpack(data) {
		if err != nil {
			t.Fatal(err)
		}
		var want record.Line
		if err := json.Unmarshal(lines[n%len(lines)], &want); err != nil {
			t.Fatal(err)
		}
		if line.Seq != want.Seq || line.Time != want.Time || line.Format != v.Format || line.Compression != v.Compression ||
			!strings.HasPrefix(want.Source.Instance, line.Source.Instance) || line.Type != "" && line.Type != want.Type {
			t.Errorf("event %d: %+v, want %+v", n, line, want)
		}
		if v.Format == record.CloudWatch {
			var event struct{ Message string }
			_ = json.Unmarshal(line.Raw, &event)
			messages = append(messages, event.Message)
		} else if !bytes.Equal(line.Record, want.Record) || line.RequestID != want.RequestID || line.Truncated != want.Truncated {
			t.Errorf("event %d: %+v, want %+v", n, line, want)
		}
		n++
	}
	if n != v.Times*len(lines) {
		t.Errorf("%d events of %d", n, v.Times*len(lines))
	}
	if v.Messages == "" {
		return
	}
	if *update {
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", " ")
		_ = encoder.Encode(messages)
		if err := os.WriteFile(filepath.Join(vectorsDir, v.Messages), text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	readJSON(t, v.Messages, &want)
	if got := fmt.Sprintf("%q", messages); got != fmt.Sprintf("%q", want) {
		t.Errorf("messages %s", got)
	}
}

// A reader in Python, written by FORMAT.md alone, reads the vectors.
func TestVectorsInPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	out, err := exec.Command(python, filepath.Join(vectorsDir, "check.py")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
