package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/record"
)

// dyingFile is the file of a process that is killed in the middle of a write, at the border of a page of memory.
type dyingFile struct {
	journalFile
	writes int  // number of whole writes before the one that is cut short
	pages  int  // pages of memory that the last write still writes
	full   bool // the disk is full: a write fails after its beginning
	dead   bool
}

func (f *dyingFile) WriteAt(data []byte, at int64) (int, error) {
	const page = 4096
	if f.dead {
		return len(data), nil
	}
	cut := max(min(len(data), int((at/page+int64(f.pages))*page-at)), 0)
	if f.writes--; f.writes < 0 {
		f.dead = true
		_, _ = f.journalFile.WriteAt(data[:cut], at)
		return len(data), nil
	}
	if f.full {
		n, _ := f.journalFile.WriteAt(data[:cut], at)
		return n, syscall.ENOSPC
	}
	return f.journalFile.WriteAt(data, at)
}

// eventFates records what happened to a test's events.
type eventFates struct {
	answered  map[string]string // the instance that answered the POST, by the event's test number, which is in its record
	delivered map[string]int    // number of arrivals, by the event's test number
	declared  map[string]uint64 // lost events that the stream declares, by instance
	seen      map[string]string // the record, by instance and seq
}

// newEventFates returns an empty eventFates.
func newEventFates() *eventFates {
	return &eventFates{
		answered: map[string]string{}, delivered: map[string]int{}, declared: map[string]uint64{}, seen: map[string]string{},
	}
}

// A process that is killed at any place in any write loses no event whose POST was answered: the next process delivers
// or declares it. Three processes in a row are killed, the fourth delivers everything. Writes may fail for a while, the
// file may be removed, the instance may change, and a process may be killed during the adoption. Only events that were
// answered while writes fail may be lost.
func TestKilledAtAnyWrite(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 40
	}
	for seed := range seeds {
		random := rand.New(rand.NewPCG(seed, 7))
		o := options()
		o.Format = []record.Format{record.NDJSON, record.JSON}[random.IntN(2)]
		o.PartitionKey = []PartitionKey{ByEnvironment, ByRequest, ByRandom}[random.IntN(3)]
		o.MaxRecordBytes = 60_000
		o.Flush.RecordBytes = []int{1024, 2000, 40_000}[random.IntN(3)]
		o.Flush.BufferBytes = []int{60_000, 400_000}[random.IntN(2)]
		if random.IntN(4) == 0 {
			o.Source.Tags = map[string]string{"tag": strings.Repeat("x", 4000)}
			o.Flush.BufferBytes *= 3
		}
		name := fmt.Sprintf("seed %d: %s, %s, %d bytes a record, a buffer of %d",
			seed, o.Format, o.PartitionKey, o.Flush.RecordBytes, o.Flush.BufferBytes)
		f := newEventFates()
		dir := t.TempDir()
		number := 0
		for range 3 {
			number = f.runUntilKilled(t, o, dir, random, number)
		}
		stream := &fakeStream{}
		d := startProcess(t, o, dir, stream)
		d.Ship(t.Context(), flush.AtShutdown)
		d.Receive([]Event{logEvent(0, 1)}, time.Time{}, false) // the stream accepts it, so losses are declared
		d.Ship(t.Context(), flush.AtShutdown)
		f.read(t, stream)
		check(t, d)
		d.mu.Lock()
		d.journalLocked()
		if d.events != 0 || d.pages.count != 0 || d.pages.used[0] != 1 {
			t.Fatalf("%s: %d events and %d pages are left, bits of the first word %b", name, d.events, d.pages.count, d.pages.used[0])
		}
		d.mu.Unlock()
		d.kill()
		again := &fakeStream{}
		d = startProcess(t, o, dir, again)
		d.Ship(t.Context(), flush.AtShutdown)
		if len(again.lines) > 0 {
			t.Fatalf("%s: delivered again: %d lines, the first is %+v", name, len(again.lines), again.lines[0])
		}
		d.Close(false)
		missing := map[string]uint64{}
		for n, instance := range f.answered {
			if f.delivered[n] == 0 {
				missing[instance]++
			}
		}
		for instance, n := range missing {
			if n > f.declared[instance] {
				t.Fatalf("%s: %d events were answered, %d of %s did not arrive, %d are declared",
					name, len(f.answered), n, instance, f.declared[instance])
			}
		}
	}
}

// runUntilKilled runs a process until it is killed. number is the test number of the next event. runUntilKilled returns
// the last test number.
func (f *eventFates) runUntilKilled(t *testing.T, o Options, dir string, random *rand.Rand, number int) int {
	t.Helper()
	var d *Dispatcher
	var file *dyingFile
	receive := func() {
		var events []Event
		first := number
		for range 1 + random.IntN(6) {
			e := Event{RequestID: fmt.Sprintf("r%d", random.IntN(3))}
			size := random.IntN(900)
			if random.IntN(20) == 0 {
				size = random.IntN(50_000)
			}
			if random.IntN(4) == 0 {
				e.Raw, e.Class = fmt.Appendf(nil, `{"time":"t","type":"platform.report","record":"%d %0*d"}`, number, size, 0), Platform
			} else {
				e.Raw = fmt.Appendf(nil, `{"time":"t","type":"function","record":"%d %0*d"}`, number, size, 0)
			}
			events = append(events, e)
			number++
		}
		d.Receive(events, time.Time{}, false)
		d.mu.Lock()
		defer d.mu.Unlock()
		if _, dirty := dirtyPages(d); !file.dead && !dirty {
			for n := first; n < number; n++ {
				f.answered[fmt.Sprint(n)] = d.source.Instance()
			}
		}
	}
	stream := &fakeStream{}
	stream.put = func(_ context.Context, records []kinesis.Record) kinesis.Result {
		var result kinesis.Result
		mood := random.IntN(4)
		for range records {
			outcome := kinesis.Unsent
			if mood == 0 || mood == 1 && random.IntN(2) == 0 {
				outcome = kinesis.Sent
			} else if mood == 2 {
				outcome = kinesis.Outcome(random.IntN(3))
			}
			result.Outcomes = append(result.Outcomes, outcome)
		}
		if random.IntN(2) == 0 {
			receive()
		}
		return result
	}
	o.SpillDir, o.SpillOwner = dir, "stream"
	d = New(o, stream)
	d.StartJournal()
	killAfter := func(writes int) {
		file = &dyingFile{journalFile: d.journal.file, writes: writes, pages: random.IntN(12)}
		d.journal.file = file
	}
	d.mu.Lock()
	d.ensureJournalLocked()
	killAfter(random.IntN(60))
	d.mu.Unlock()
	d.awaitAdopted(t.Context())
	restored := false
	for range 200 {
		switch random.IntN(14) {
		case 0, 1:
			d.Ship(t.Context(), flush.AtShutdown)
		case 2:
			d.EmitStats()
		case 3:
			if !restored {
				d.NewInstance()
			}
			restored = true
		case 4:
			d.mu.Lock()
			d.moveLogsLastLocked()
			d.journalLocked()
			d.mu.Unlock()
		case 5:
			d.mu.Lock()
			file.full = !file.full && random.IntN(2) == 0
			if random.IntN(2) == 0 && !file.dead {
				d.journal.pausedUntil = time.Time{} // as after a minute
				// No kill during these writes: lines that moved during the pause may be written after the lines that
				// replace them.
				writes := file.writes
				file.writes = 1000
				d.journalLocked()
				file.writes = writes
			}
			d.mu.Unlock()
		case 6:
			if random.IntN(4) > 0 {
				break
			}
			d.mu.Lock()
			if path := file.Name(); !file.dead {
				if err := errors.Join(os.Remove(path)); err != nil {
					t.Error(err)
				}
				d.checkJournalLocked()
				killAfter(file.writes)
			}
			d.mu.Unlock()
		default:
			receive()
		}
		check(t, d)
		if file.dead {
			break
		}
	}
	f.read(t, stream)
	d.kill()
	return number
}

// read adds the lines of a stream.
func (f *eventFates) read(t *testing.T, stream *fakeStream) {
	t.Helper()
	for _, line := range stream.lines {
		id := fmt.Sprint(line.Source.Instance, line.Seq)
		if before := f.seen[id]; before != "" && before != string(line.Record) {
			t.Fatalf("two events have the seq %d: %.100s and %.100s", line.Seq, before, line.Record)
		}
		f.seen[id] = string(line.Record)
		switch line.Type {
		case "function", "platform.report":
			name, _, _ := strings.Cut(string(line.Record)[1:], " ")
			f.delivered[name]++
		case typeDropped:
			var l loss
			mustUnmarshal(t, line.Record, &l)
			f.declared[l.Instance] += l.Count
		}
	}
}

// Adoption, POSTs, canceled flights, invocations and a journal that is removed, all at once, lose no event, no byte of
// an event and no page.
func TestAllAtOnceLosesNothing(t *testing.T) {
	for _, format := range []record.Format{record.NDJSON, record.JSON} {
		dir := t.TempDir()
		f := newEventFates()
		o := options()
		o.Format, o.PartitionKey = format, ByRequest
		o.Flush.RecordBytes, o.MaxRecordBytes, o.Flush.BufferBytes = 20_000, 20_000, 1<<20
		event := func(number int) Event {
			raw := fmt.Appendf(nil, `{"time":"t","type":"function","record":"%d %0*d"}`, number, number*37%3000, 0)
			return Event{Raw: raw, RequestID: fmt.Sprint("r", number%5)}
		}
		previous := startProcess(t, o, dir, discardStream{})
		const old, events = 100, 400
		for n := range old {
			previous.Receive([]Event{event(n)}, time.Time{}, false)
		}
		previous.kill()
		stream := &fakeStream{}
		stream.put = func(ctx context.Context, records []kinesis.Record) kinesis.Result {
			select {
			case <-time.After(time.Duration(len(records)%2) * 2 * time.Millisecond):
			case <-ctx.Done():
				return answerAll(kinesis.Unsent, errors.New("canceled"))(ctx, records)
			}
			result := answerAll(kinesis.Sent, nil)(ctx, records)
			result.Outcomes[len(records)/2] = kinesis.Unsent
			return result
		}
		o.SpillDir, o.SpillOwner = dir, "stream"
		d := New(o, stream)
		d.StartJournal()
		var group sync.WaitGroup
		group.Go(func() {
			for n := range events / 2 {
				d.Receive([]Event{event(old + 2*n), event(old + 2*n + 1)}, time.Time{}, false)
			}
		})
		group.Go(func() {
			for range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				d.Ship(ctx, flush.AtShutdown)
				cancel()
			}
		})
		group.Go(func() {
			d.awaitAdopted(t.Context())
			for n := range 20 {
				_ = os.Remove(filepath.Join(dir, "journal-0"))
				d.Note(invoked(n + 1))
				check(t, d)
			}
		})
		group.Wait()
		stream.script(nil)
		d.Ship(t.Context(), flush.AtShutdown)
		if s := check(t, d); s.Buffered != 0 || s.Dropped != 0 || s.Recovered != old {
			t.Errorf("%+v", s)
		}
		f.read(t, stream)
		if len(f.delivered) != old+events {
			t.Errorf("%d of %d events", len(f.delivered), old+events)
		}
		d.mu.Lock()
		d.journalLocked()
		if d.pages.used[0] != 1 {
			t.Errorf("pages %b are not free", d.pages.used[0])
		}
		d.mu.Unlock()
		d.Close(false)
	}
}
