package dispatcher

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/record"
)

// life is a Dispatcher that spills to dir, and what it logs.
func life(t *testing.T, dir string, stream Stream) (*Dispatcher, *bytes.Buffer) {
	t.Helper()
	var said bytes.Buffer
	o := options()
	o.SpillDir, o.SpillOwner = dir, "logs"
	o.Log = slog.New(slog.NewTextHandler(&said, nil))
	d := New(o, stream)
	t.Cleanup(d.Close)
	return d, &said
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// undelivered leaves n events in dir, as a life does that is killed after it has saved them.
func undelivered(t *testing.T, dir string, n int) (instance string) {
	t.Helper()
	dead := &fakeStream{put: all(kinesis.Unsent, errors.New("dead"))}
	d, said := life(t, dir, dead)
	for i := range n {
		d.Receive([]Event{logEvent(i, 100)}, time.Time{})
	}
	if saved, err := d.Save(); err != nil || saved != n {
		t.Fatalf("saved %d: %v", saved, err)
	}
	d.Ship(t.Context(), flush.AtShutdown)
	if saved, err := d.Save(); err != nil || saved != n {
		t.Fatalf("saved %d after a vain drain: %v; %s", saved, err, said)
	}
	return d.source.Instance()
}

// What a life leaves the next one sends first, with its old instance and numbers; then the file is gone.
func TestSpill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "when needed")
	instances := []string{undelivered(t, dir, 5)}
	stream := &fakeStream{}
	d, said := life(t, dir, stream)
	d.Receive([]Event{logEvent(100, 100)}, time.Time{})
	d.Recover()
	if s := check(t, d); s.Received != 6 || s.Held != 6 || s.Recovered != 5 {
		t.Fatalf("%+v", s)
	}
	if len(files(t, dir)) != 1 {
		t.Error("the file is gone before its events are")
	}
	d.Ship(t.Context(), flush.AtShutdown)
	check(t, d)
	if n := files(t, dir); len(n) > 0 || said.Len() > 0 {
		t.Errorf("left behind: %v; said: %s", n, said)
	}
	for i, line := range stream.lines {
		wantSeq, wantInstance := uint64(i), instances[0]
		if i == 5 {
			wantSeq, wantInstance = 0, d.source.Instance()
		}
		if line.Seq != wantSeq || line.Source.Instance != wantInstance || line.Source.Function != "f" {
			t.Errorf("line %d: %+v", i, line)
		}
	}
}

// A life that delivers nothing either leaves what it has inherited, and its own, to the third, in order.
func TestSpillOverSeveralLives(t *testing.T) {
	dir := t.TempDir()
	first := undelivered(t, dir, 3)
	dead := &fakeStream{put: all(kinesis.Unsent, errors.New("dead"))}
	d, _ := life(t, dir, dead)
	d.Recover()
	d.Receive([]Event{logEvent(7, 100)}, time.Time{})
	if saved, err := d.Save(); err != nil || saved != 4 || len(files(t, dir)) != 1 {
		t.Fatalf("saved %d in %v: %v", saved, files(t, dir), err)
	}
	stream := &fakeStream{}
	last, _ := life(t, dir, stream)
	last.Recover()
	last.Ship(t.Context(), flush.AtShutdown)
	check(t, last)
	if len(stream.lines) != 4 || stream.lines[0].Source.Instance != first || stream.lines[3].Seq != 0 || len(files(t, dir)) > 0 {
		t.Errorf("%d lines: %+v; files %v", len(stream.lines), stream.lines, files(t, dir))
	}
}

// A file that a life was killed over is half of one: the next life removes it, or they would fill the disk.
func TestSpillThatWasNotFinished(t *testing.T) {
	dir := t.TempDir()
	d, said := life(t, dir, &fakeStream{})
	for _, name := range []string{d.source.Instance() + ".spill.tmp", "notes.tmp"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half of"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.Recover()
	if n := files(t, dir); !slices.Equal(n, []string{"notes.tmp"}) || said.Len() > 0 || check(t, d).Received != 0 {
		t.Errorf("left behind: %v; said: %s", n, said)
	}
}

// All that the buffer holds is kept and found again: many short lines with a long source, too.
func TestSpillOfShortLines(t *testing.T) {
	dir := t.TempDir()
	o := options()
	o.SpillDir, o.SpillOwner, o.Flush.BufferBytes = dir, "logs", 4<<20
	o.Source.Tags = map[string]string{"team": strings.Repeat("x", 2000)}
	o.MaxRecordBytes = 1 << 20
	d := New(o, &fakeStream{})
	defer d.Close()
	for n := range 20_000 {
		d.Receive([]Event{logEvent(n, 10)}, time.Time{})
	}
	saved, err := d.Save()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(d.spill.own); err != nil || info.Size() > int64(2*o.Flush.BufferBytes) {
		t.Errorf("%d bytes for a buffer of %d: %v", info.Size(), o.Flush.BufferBytes, err)
	}
	next := New(o, &fakeStream{})
	defer next.Close()
	next.Recover()
	if s := check(t, next); saved != 20_000 || int(s.Recovered) != saved || s.Dropped > 0 {
		t.Errorf("saved %d, found %+v", saved, s)
	}
}

// A healthy end leaves no file, also where one was saved before the last flush.
func TestSpillIsRemovedWhenAllIsDelivered(t *testing.T) {
	dir := t.TempDir()
	d, _ := life(t, dir, &fakeStream{})
	d.Receive([]Event{logEvent(1, 10)}, time.Time{})
	for _, want := range []int{1, 0} {
		if saved, err := d.Save(); err != nil || saved != want || len(files(t, dir)) != want {
			t.Errorf("saved %d, want %d: %v, files %v", saved, want, err, files(t, dir))
		}
		d.Ship(t.Context(), flush.AtShutdown)
	}
}

// Whatever lies in the directory, what is ours and whole is sent, and what is not is said.
func TestSpillThatIsNotAsItShouldBe(t *testing.T) {
	for _, test := range []struct {
		name     string
		spoil    func(t *testing.T, path string)
		lines    int
		said     string
		survives bool
	}{
		{"a torn end", func(t *testing.T, path string) {
			edit(t, path, func(b []byte) []byte { return b[:len(b)-20] })
		}, 4, "1 of 5 events are lost", false},
		{"an altered byte", func(t *testing.T, path string) {
			edit(t, path, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, 4, "torn or altered", false},
		{"somebody else's text", func(t *testing.T, path string) {
			edit(t, path, func([]byte) []byte { return []byte("hello\n") })
		}, 0, "left alone", true},
		{"empty", func(t *testing.T, path string) { edit(t, path, func([]byte) []byte { return nil }) }, 0, "left alone", true},
		{"another stream's", func(t *testing.T, path string) {
			edit(t, path, func(b []byte) []byte { return bytes.Replace(b, []byte(" logs\n"), []byte(" other\n"), 1) })
		}, 0, "left alone", true},
		{"a directory", func(t *testing.T, path string) {
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
		}, 0, "", true},
	} {
		dir := t.TempDir()
		undelivered(t, dir, 5)
		test.spoil(t, filepath.Join(dir, files(t, dir)[0]))
		stream := &fakeStream{}
		d, said := life(t, dir, stream)
		d.Recover()
		d.Receive([]Event{logEvent(1, 10)}, time.Time{})
		d.Ship(t.Context(), flush.AtShutdown)
		check(t, d)
		if len(stream.lines) != test.lines+1 || !strings.Contains(said.String(), test.said) || len(files(t, dir)) > 0 != test.survives {
			t.Errorf("%s: %d lines, files %v, said %s", test.name, len(stream.lines), files(t, dir), said)
		}
	}
}

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(content), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A file that a living process has taken over is left to it.
func TestSpillInUse(t *testing.T) {
	dir := t.TempDir()
	undelivered(t, dir, 2)
	d, _ := life(t, dir, &fakeStream{})
	d.Recover()
	other, said := life(t, dir, &fakeStream{})
	other.Recover()
	if s := other.Stats(); s.Received != 0 || !strings.Contains(said.String(), "in use") {
		t.Errorf("%+v; said %s", s, said)
	}
}

// A directory that cannot be written to, or is none, is said by an error that names the setting; nothing is lost before.
func TestSpillToNowhere(t *testing.T) {
	notADirectory := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notADirectory, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{notADirectory, "/proc/kinesis-telemetry", "/dev/full/x"} {
		stream := &fakeStream{}
		d, _ := life(t, dir, stream)
		d.Recover()
		d.Receive([]Event{logEvent(1, 10)}, time.Time{})
		if _, err := d.Save(); err == nil || !strings.Contains(err.Error(), "KINESIS_TELEMETRY_SPILL_DIR") {
			t.Errorf("%s: %v", dir, err)
		}
		d.Ship(t.Context(), flush.AtShutdown)
		if check(t, d).Held != 0 {
			t.Errorf("%s: %+v", dir, d.Stats())
		}
	}
	d, _ := life(t, "", &fakeStream{})
	d.Recover()
	d.Receive([]Event{logEvent(1, 10)}, time.Time{})
	if saved, err := d.Save(); saved != 0 || err != nil {
		t.Errorf("switched off: %d, %v", saved, err)
	}
}

// A disk that takes only a part is said; no half of a file is left, and what an earlier life had left stays.
func TestSpillToAFullDisk(t *testing.T) {
	dir := t.TempDir()
	undelivered(t, dir, 3)
	stream := &fakeStream{}
	d, _ := life(t, dir, stream)
	d.Recover()
	for n := range 1000 {
		d.Receive([]Event{logEvent(n, 10)}, time.Time{})
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	small := syscall.Rlimit{Cur: 4096, Max: before.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		t.Fatal(err)
	}
	_, err := d.Save()
	if restored := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); restored != nil {
		t.Fatal(restored)
	}
	if !errors.Is(err, syscall.EFBIG) || len(files(t, dir)) != 1 {
		t.Errorf("%v; files %v", err, files(t, dir))
	}
	d.Ship(t.Context(), flush.AtShutdown)
	if check(t, d).Held != 0 || len(files(t, dir)) != 0 {
		t.Errorf("%+v; files %v", d.Stats(), files(t, dir))
	}
}

// Recovered events that find no room, or are too large by now, are dropped and declared like all others.
func TestSpillThatIsTooMuch(t *testing.T) {
	dir := t.TempDir()
	undelivered(t, dir, 100)
	stream := &fakeStream{}
	o := options()
	o.SpillDir, o.SpillOwner, o.Flush.BufferBytes = dir, "logs", 5000
	d := New(o, stream)
	defer d.Close()
	d.Recover()
	stats := check(t, d)
	if stats.Dropped == 0 || stats.Held == 0 || stats.Received != 100 {
		t.Fatalf("%+v", stats)
	}
	d.Ship(context.Background(), flush.AtShutdown)
	if !slices.ContainsFunc(stream.lines, func(l record.Line) bool { return l.Type == typeDropped }) || len(files(t, dir)) > 0 {
		t.Errorf("%d lines, files %v", len(stream.lines), files(t, dir))
	}
}

// Files of several lives are sent in the order of those lives.
func TestSpillInOrderOfLives(t *testing.T) {
	dir := t.TempDir()
	for n := range 3 {
		d, _ := life(t, dir, &fakeStream{})
		d.Receive([]Event{{Raw: []byte(`{"time":"t","type":"function","record":` + string(rune('0'+n)) + `}`)}}, time.Time{})
		if _, err := d.Save(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, string("bca"[n])+spillSuffix) // the order of names is not the order of lives
		if err := os.Rename(filepath.Join(dir, d.source.Instance()+spillSuffix), path); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(time.Duration(n-10) * time.Hour)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v: others can read what a function logs", info.Mode(), err)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	stream := &fakeStream{}
	d, _ := life(t, dir, stream)
	d.Recover()
	d.Ship(t.Context(), flush.AtShutdown)
	var got []string
	for _, l := range stream.lines {
		got = append(got, string(l.Record))
	}
	if !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("%q", got)
	}
}

// Recovered events above a limit that has been lowered since are dropped for that.
func TestSpillThatIsTooLargeByNow(t *testing.T) {
	small := New(options(), &fakeStream{})
	defer small.Close()
	small.Receive([]Event{logEvent(0, 100)}, time.Time{})
	size := small.packer.RecordSize(&small.queue.front().Event)
	for limit, tooLarge := range map[int]uint64{size: 0, size - 1: 3} {
		o := options()
		o.SpillDir, o.SpillOwner, o.MaxRecordBytes = t.TempDir(), "logs", limit
		undelivered(t, o.SpillDir, 3)
		d := New(o, &fakeStream{})
		d.Recover()
		if s := check(t, d); s.Received != 3 || s.Reasons[reasonTooLarge] != tooLarge {
			t.Errorf("a limit of %d for records of %d: %+v", limit, size, s)
		}
		d.Close()
	}
}

// What is saved is found again, whatever its class: the extension's own events, and the smallest there is.
func TestSpillOfAllClasses(t *testing.T) {
	dir := t.TempDir()
	d, _ := life(t, dir, &fakeStream{})
	d.Receive([]Event{{Raw: []byte("{}")}, platformEvent()}, time.Time{})
	d.SayStats()
	if _, err := d.Save(); err != nil {
		t.Fatal(err)
	}
	d, said := life(t, dir, &fakeStream{})
	d.Recover()
	if s := check(t, d); s.Recovered != 3 || said.Len() > 0 {
		t.Errorf("%+v; said %s", s, said)
	}
	for i, class := range []Class{Log, Platform, own} {
		if got := d.queue.events[i].class; got != class {
			t.Errorf("event %d is of class %d", i, got)
		}
	}
}

// What is on its way is saved, too.
func TestSaveWithAFlightUnderWay(t *testing.T) {
	dir := t.TempDir()
	stream := &fakeStream{}
	d, _ := life(t, dir, stream)
	stream.script(func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		if saved, err := d.Save(); saved != 1 || err != nil {
			t.Errorf("saved %d, %v", saved, err)
		}
		return all(kinesis.Sent, nil)(ctx, records)
	})
	d.Receive([]Event{logEvent(1, 10)}, time.Time{})
	d.Ship(t.Context(), flush.AtShutdown)
}

// FuzzSpill: whatever is in a file, reading it does not panic, and what is read can be written and read again.
func FuzzSpill(f *testing.F) {
	dir := f.TempDir()
	d := New(options(), &fakeStream{})
	defer d.Close()
	d.options.SpillDir = dir
	d.Receive([]Event{logEvent(1, 10), platformEvent()}, time.Time{})
	if _, err := d.Save(); err != nil {
		f.Fatal(err)
	}
	content, err := os.ReadFile(d.spill.own)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Add(content[:len(content)-3])
	f.Add([]byte(spillHeader + "x\n00000000 \t\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		events, _, _ := parseSpill(content)
		var written bytes.Buffer
		if err := encodeSpill(&written, "x", events); err != nil {
			t.Fatal(err)
		}
		again, owner, err := parseSpill(written.Bytes())
		if err != nil || owner != "x" || len(again) != len(events) {
			t.Fatalf("%d events, and again %d of %q: %v", len(events), len(again), owner, err)
		}
		for i := range again {
			q, e := again[i], events[i]
			same := bytes.Equal(q.Raw, e.Raw) && q.Source.Instance() == e.Source.Instance()
			q.Raw, e.Raw, q.Source, e.Source = nil, nil, nil, nil
			if !same || !reflect.DeepEqual(q, e) {
				t.Fatalf("%+v and again %+v", e, q)
			}
		}
	})
}
