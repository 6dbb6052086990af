package dispatcher

import (
	"cmp"
	"fmt"
	"time"

	"kinesis-telemetry-extension/internal/kernelrand"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/record"
)

// encoder makes records from batches. It is not safe for concurrent use.
type encoder struct {
	format     record.Format
	compressor *record.Compressor // nil: none
	cloudWatch record.CloudWatchEncoder
	kpl        record.KPLEncoder

	random  bool // a key is drawn for each record
	records []kinesis.Record
	encoded []byte // data of records, except of those that are sent directly from pages
	lines   []byte // scratch
}

func newEncoder(o *Options) *encoder {
	e := &encoder{format: o.Format, random: o.PartitionKey == ByRandom, cloudWatch: record.CloudWatchEncoder{
		Owner:    cmp.Or(o.Source.Account, "000000000000"), // consumers refuse an empty owner
		LogGroup: cmp.Or(o.LogGroup, "/aws/lambda/"+cmp.Or(o.Source.Function, "unknown")),
		JSONLogs: o.JSONLogs,
	}}
	if o.Format != record.CloudWatch && cmp.Or(o.Compression, record.Uncompressed) != record.Uncompressed {
		e.compressor = record.NewCompressor(o.Compression)
	}
	return e
}

// defaultLogStream returns a name for the function's log stream in Lambda's form, until the platform reports the real
// name.
// https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html
func defaultLogStream(o *Options, instance string) string {
	function := "" // only part of the name if several functions may share the log group
	if o.LogGroup != "" {
		function = o.Source.Function
	}
	return fmt.Sprintf("%s/%s[%s]%s", time.Now().UTC().Format("2006/01/02"), function, cmp.Or(o.Source.Version, "$LATEST"), instance)
}

// encode makes the records of the flight, without the lock: the pages of a batch in flight do not change.
func (d *Dispatcher) encode() {
	d.encoder.encoded, d.encoder.records = d.encoder.encoded[:0], d.encoder.records[:0]
	for _, b := range d.flight {
		d.encoder.add(b, d.parts[b.from:b.to:b.to])
	}
}

// add makes the records of a batch from its pieces.
func (e *encoder) add(b *batch, pieces [][]byte) {
	from := len(e.encoded)
	switch {
	case e.format == record.JSON:
		for line := range linesOf(pieces, b.logsOnly) {
			from = len(e.encoded)
			e.append([][]byte{line[:len(line)-1]})
			e.addRecord(b.key, [][]byte{e.encoded[from:len(e.encoded):len(e.encoded)]})
		}
		return
	case e.format == record.CloudWatch:
		e.cloudWatch.Begin(e.encoded, b.source.Instance(), b.logStream)
		for line := range linesOf(pieces, b.logsOnly) {
			e.cloudWatch.Add(line)
		}
		e.encoded = e.cloudWatch.End()
	case e.format == record.KPL:
		e.kpl.Begin(e.encoded, b.key)
		for line := range linesOf(pieces, b.logsOnly) {
			e.kpl.Add(line)
		}
		e.encoded = e.kpl.End()
	case b.logsOnly:
		e.lines = e.lines[:0]
		for line := range linesOf(pieces, true) {
			e.lines = append(e.lines, line...)
		}
		e.append([][]byte{e.lines})
	case e.compressor != nil:
		e.append(pieces)
	default:
		e.addRecord(b.key, pieces)
		return
	}
	e.addRecord(b.key, [][]byte{e.encoded[from:len(e.encoded):len(e.encoded)]})
}

// addRecord adds a record.
func (e *encoder) addRecord(key string, data [][]byte) {
	if e.random {
		key = kernelrand.Hex(len(keyPlaceholder) / 2)
	}
	e.records = append(e.records, kinesis.Record{PartitionKey: key, Data: data})
}

// append appends pieces to encoded, compressed if the setting says so.
func (e *encoder) append(pieces [][]byte) {
	if e.compressor != nil {
		e.encoded = e.compressor.Append(e.encoded, pieces)
		return
	}
	for _, piece := range pieces {
		e.encoded = append(e.encoded, piece...)
	}
}

// recordBytes returns the size of a record before compression, from the number of its lines and their size.
func (d *Dispatcher) recordBytes(key string, lines, size int) int {
	switch d.options.Format {
	case record.KPL:
		return record.MaxKPLSize(key, lines, size) + len(key)
	case record.JSON:
		return size - lines + len(key)
	case record.NDJSON, record.CloudWatch:
	}
	return size + len(key)
}

// compressedBytes returns the size of a compressed record with one event.
func (d *Dispatcher) compressedBytes(key string, event *record.Event) int {
	line := append(record.AppendEvent(nil, event), '\n')
	e := newEncoder(&d.options)
	e.add(&batch{key: key, source: event.Source, logStream: d.logStream}, [][]byte{line})
	return e.records[0].Size()
}
