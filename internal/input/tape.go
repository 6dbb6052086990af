package input

import (
	"bufio"
	"io"
)

// bufferSize is how much is read at once, and how far a tape can be rewound at least.
const bufferSize = 64 << 10

// tape is a reader that can go back a little: a decompressor that runs into the end of a broken member reads into the next one.
type tape struct {
	*bufio.Reader
	played player
}

func (t *tape) reset(from io.Reader) {
	t.played = player{from: from, kept: t.played.kept[:0]}
	if t.Reader == nil {
		t.Reader = bufio.NewReaderSize(nil, bufferSize)
	}
	t.Reset(&t.played)
}

// at is how much was read.
func (t *tape) at() int64 { return t.played.at - int64(t.Buffered()) }

// rewind goes back to where so much was read, or as far as it can.
func (t *tape) rewind(to int64) {
	p := &t.played
	back := int(min(p.at-to, int64(len(p.kept))))
	last := len(p.kept) - back
	p.again = append(append([]byte{}, p.kept[last:]...), p.again...)
	p.kept = p.kept[:last]
	p.at -= int64(back)
	t.Reset(p)
}

// player is what a tape's buffer reads from.
type player struct {
	from  io.Reader
	at    int64
	kept  []byte // what came last
	again []byte // what comes next, before from
}

func (p *player) Read(buffer []byte) (n int, err error) {
	if len(p.again) > 0 {
		n = copy(buffer, p.again)
		p.again = p.again[n:]
	} else {
		n, err = p.from.Read(buffer)
	}
	p.at += int64(n)
	if len(p.kept)+n > 3*bufferSize {
		p.kept = append(p.kept[:0], p.kept[max(0, len(p.kept)-bufferSize):]...)
	}
	p.kept = append(p.kept, buffer[:n]...)
	return n, err
}
