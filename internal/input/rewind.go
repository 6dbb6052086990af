package input

import (
	"bufio"
	"io"
)

// bufferSize is how much is read at once, and the least distance that a rewinder can go back.
const bufferSize = 64 << 10

// rewinder is a reader that can go back a little: a decompressor that fails at the end of a broken member has read into the
// next one.
type rewinder struct {
	*bufio.Reader
	history history
}

func (r *rewinder) reset(from io.Reader) {
	r.history = history{from: from, recent: r.history.recent[:0]}
	if r.Reader == nil {
		r.Reader = bufio.NewReaderSize(nil, bufferSize)
	}
	r.Reset(&r.history)
}

// at returns how many bytes were read.
func (r *rewinder) at() int64 { return r.history.at - int64(r.Buffered()) }

// rewind goes back to the position to, or as far as it can.
func (r *rewinder) rewind(to int64) {
	h := &r.history
	back := int(min(h.at-to, int64(len(h.recent))))
	last := len(h.recent) - back
	h.pending = append(append([]byte{}, h.recent[last:]...), h.pending...)
	h.recent = h.recent[:last]
	h.at -= int64(back)
	r.Reset(h)
}

// history is the reader that fills a rewinder's buffer.
type history struct {
	from    io.Reader
	at      int64  // bytes read
	recent  []byte // the last of the bytes read
	pending []byte // rewound bytes, to be read before from
}

func (h *history) Read(buffer []byte) (n int, err error) {
	if len(h.pending) > 0 {
		n = copy(buffer, h.pending)
		h.pending = h.pending[n:]
	} else {
		n, err = h.from.Read(buffer)
	}
	h.at += int64(n)
	if len(h.recent)+n > 3*bufferSize {
		h.recent = append(h.recent[:0], h.recent[max(0, len(h.recent)-bufferSize):]...)
	}
	h.recent = append(h.recent, buffer[:n]...)
	return n, err
}
