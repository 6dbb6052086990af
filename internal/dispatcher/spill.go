package dispatcher

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"kinesis-telemetry-extension/record"
)

// A spill file holds events that an earlier life of the environment could not deliver: a first line that says whose they
// are, then lines
//
//	checksum SP source LF
//	checksum SP stamp TAB raw LF
//
// where raw is an event as Lambda posted it (it has no line breaks), stamp is the JSON of spillStamp, source that of
// spillSource, in front of its first event, and checksum is the CRC-32C of what stands behind it in 8 hexadecimal digits.
// An event's line that is torn or altered costs no other.
const (
	spillHeader = "kinesis-telemetry-extension spill 1 "
	spillSuffix = ".spill"
	unfinished  = ".tmp" // behind the name of a file that is being written
)

// checksum is the CRC-32C. Its tables are made when the first file is written or read: a package variable would make them
// before the extension registers.
func checksum(line []byte) uint32 { return crc32.Checksum(line, crc32.MakeTable(crc32.Castagnoli)) }

// spillStamp is what an event has beside its raw bytes.
type spillStamp struct {
	Class     Class  `json:"class"`
	At        int64  `json:"at"`
	RequestID string `json:"requestId,omitempty"`
	Key       string `json:"key"`
	Seq       uint64 `json:"seq"`
	Source    int    `json:"source"` // a spillSource's ID
}

// spillSource is what many events share: with some tags it is longer than a line of a log.
type spillSource struct {
	ID     int             `json:"id"`
	Source json.RawMessage `json:"source"`
}

// spill is what the Dispatcher knows of its spill files.
type spill struct {
	recovered []*os.File // read and locked; removed when what they held has ended
	waiting   int        // recovered events that have not ended
	own       string     // written by this life; empty: none
}

// release forgets and returns the recovered files if nothing of them is held any more.
func (d *Dispatcher) release() (files []*os.File) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.spill.waiting == 0 {
		files, d.spill.recovered = d.spill.recovered, nil
	}
	return files
}

// forget removes spill files whose events have ended, or are in another file now.
func forget(files []*os.File) {
	for _, f := range files {
		_ = os.Remove(f.Name()) // what cannot be removed is sent again by the next life, as recognisable duplicates
		_ = f.Close()           // nothing was written
	}
}

// Save makes the spill file hold what the Dispatcher holds, for the environment's next life; when that is nothing there is
// no file. It returns how many events are in it. There is no fsync: it outlives the process, not the machine.
func (d *Dispatcher) Save() (saved int, err error) {
	if d.options.SpillDir == "" {
		return 0, nil
	}
	d.mu.Lock()
	d.declareLocked()
	events := slices.Concat(d.flight, d.queue.events[d.queue.head:])
	path := filepath.Join(d.options.SpillDir, d.source.Instance()+spillSuffix)
	d.mu.Unlock()
	if len(events) == 0 {
		if d.spill.own != "" {
			err, d.spill.own = os.Remove(d.spill.own), ""
		}
		forget(d.release())
		return 0, err
	}
	if err := d.writeSpill(path, events); err != nil {
		return 0, fmt.Errorf("KINESIS_TELEMETRY_SPILL_DIR: %w", err)
	}
	d.spill.own = path
	d.mu.Lock()
	d.spill.waiting = 0 // they are in the new file
	d.mu.Unlock()
	forget(d.release())
	return len(events), nil
}

// writeSpill writes a spill file under another name first: a file that is found is whole.
func (d *Dispatcher) writeSpill(path string, events []queued) (err error) {
	if err := os.MkdirAll(d.options.SpillDir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path+unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close() // the second time where all went well
		if err != nil {
			_ = os.Remove(f.Name()) // err says more
		}
	}()
	if err := encodeSpill(f, d.options.SpillOwner, events); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// encodeSpill writes what parseSpill reads.
func encodeSpill(f io.Writer, owner string, events []queued) error {
	w := bufio.NewWriterSize(f, 64<<10)
	fmt.Fprintf(w, "%s%s\n", spillHeader, owner)
	put := func(line []byte) { fmt.Fprintf(w, "%08x %s\n", checksum(line), line) } // Flush tells what went wrong
	ids := map[*record.Source]int{}
	var line []byte
	for i := range events {
		q := &events[i]
		id, known := ids[q.Source]
		if !known {
			id = len(ids)
			ids[q.Source] = id
			put(appendJSON(line[:0], spillSource{id, q.Source.JSON()}))
		}
		line = appendJSON(line[:0], spillStamp{q.class, q.at, q.RequestID, q.Key, q.Seq, id})
		line = append(append(line, '\t'), q.Raw...)
		put(line)
	}
	return w.Flush()
}

func appendJSON(line []byte, value any) []byte {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic("dispatcher: a stamp of numbers and strings did not encode: " + err.Error())
	}
	return append(line, encoded...)
}

// Recover takes over what earlier lives have left, in front of all that is held. It is called before the first
// invocation. What is wrong is said, and costs nothing else.
func (d *Dispatcher) Recover() {
	if d.options.SpillDir == "" {
		return
	}
	paths, err := spillFiles(d.options.SpillDir)
	if err != nil {
		d.options.Log.Warn("KINESIS_TELEMETRY_SPILL_DIR: what an earlier life may have left cannot be read: " + err.Error())
	}
	for _, path := range paths {
		if err := d.recoverFile(path); err != nil {
			d.options.Log.Warn("KINESIS_TELEMETRY_SPILL_DIR: " + path + ": " + err.Error())
		}
	}
	forget(d.release())
}

// spillFiles lists the spill files, the youngest first: each is put in front of those before it. It removes halves of
// files.
func spillFiles(dir string) (paths []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // the usual case
		}
		return nil, err
	}
	born := map[string]int64{}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if strings.HasSuffix(path, spillSuffix+unfinished) {
			_ = os.Remove(path) // a life was killed over it; what cannot be removed does no harm
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() && strings.HasSuffix(path, spillSuffix) {
			born[path] = info.ModTime().UnixNano()
			paths = append(paths, path)
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return int(min(max(born[b]-born[a], -1), 1)) })
	return paths, nil
}

var (
	errForeign = errors.New("is not a spill file of this extension and is left alone")
	errTorn    = errors.New("torn or altered")
)

// recoverFile queues the events of one file. The file is kept, and locked against other processes, until they have ended.
func (d *Dispatcher) recoverFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return fmt.Errorf("is in use by another process and is left alone: %w", err)
	}
	bound := 8*d.options.Flush.BufferBytes + 1<<20 // far more than a life writes: what its buffer counts, and the stamps
	content, err := io.ReadAll(io.LimitReader(f, int64(bound)))
	if err != nil {
		_ = f.Close()
		return err
	}
	events, owner, err := parseSpill(content)
	if errors.Is(err, errForeign) || owner != d.options.SpillOwner {
		_ = f.Close()
		return errForeign
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.takeOverLocked(events)
	d.spill.recovered = append(d.spill.recovered, f)
	return err
}

// takeOverLocked queues recovered events. They keep their numbers and their instance.
func (d *Dispatcher) takeOverLocked(events []queued) {
	d.account.Received += uint64(len(events))
	d.account.Recovered += uint64(len(events))
	d.spill.waiting += len(events)
	for i := range events {
		events[i].recovered = true
	}
	fitting := events[:0]
	for i := range events {
		if d.packer.RecordSize(&events[i].Event) > d.options.MaxRecordBytes {
			d.dropLocked(&events[i], reasonTooLarge)
			continue
		}
		fitting = append(fitting, events[i])
	}
	d.queue.unpop(fitting)
	d.trimLocked()
}

// parseSpill reads a spill file. Next to the events that are whole it returns an error that counts the others.
func parseSpill(content []byte) (events []queued, owner string, err error) {
	first, rest, _ := bytes.Cut(content, []byte{'\n'})
	if !bytes.HasPrefix(first, []byte(spillHeader)) {
		return nil, "", errForeign
	}
	owner = string(first[len(spillHeader):])
	sources := map[int]*record.Source{}
	torn := 0
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		q, err := parseSpilled(line, sources)
		switch {
		case err != nil:
			torn++
		case q != nil:
			events = append(events, *q)
		}
	}
	if torn > 0 {
		err = fmt.Errorf("%d of %d events are lost: %w", torn, torn+len(events), errTorn)
	}
	return events, owner, err
}

// parseSpilled reads a line. One with a source is put into sources, and is no event.
func parseSpilled(line []byte, sources map[int]*record.Source) (*queued, error) {
	sum, line, found := bytes.Cut(line, []byte{' '})
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !found || err != nil || uint32(want) != checksum(line) {
		return nil, errTorn
	}
	encoded, raw, isEvent := bytes.Cut(line, []byte{'\t'})
	if !isEvent {
		var s spillSource
		if err := json.Unmarshal(encoded, &s); err != nil {
			return nil, errTorn
		}
		sources[s.ID], err = record.ParseSource(s.Source)
		return nil, err
	}
	var stamp spillStamp
	if err := json.Unmarshal(encoded, &stamp); err != nil || stamp.Class > own || len(raw) < len("{}") || sources[stamp.Source] == nil {
		return nil, errTorn
	}
	return &queued{
		Event: record.Event{Raw: raw, RequestID: stamp.RequestID, Key: stamp.Key, Seq: stamp.Seq, Source: sources[stamp.Source]},
		class: stamp.Class, at: stamp.At,
	}, nil
}
