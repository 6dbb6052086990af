//go:build unix

package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const fifoEvent = `{"time":"t","seq":0,"source":{"instance":"i"}}` + "\n"

func makeFIFO(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// decodeFIFO runs 'ktel decode' and fails if it does not end in 10 s.
func decodeFIFO(ctx context.Context, t *testing.T, stdout io.Writer, name string) (status int, stderr string) {
	t.Helper()
	var errs bytes.Buffer
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"decode", name}, strings.NewReader(""), stdout, &errs) }()
	select {
	case status := <-ended:
		return status, errs.String()
	case <-time.After(10 * time.Second):
		t.Fatal("decode did not end")
		return 0, ""
	}
}

// decode reads all that was written into a named pipe.
func TestFIFO(t *testing.T) {
	name := makeFIFO(t)
	go func() { _ = os.WriteFile(name, []byte(strings.Repeat(fifoEvent, 5)), 0o600) }()
	var stdout bytes.Buffer
	status, stderr := decodeFIFO(t.Context(), t, &stdout, name)
	if status != statusComplete || stdout.String() != strings.Repeat(fifoEvent, 5) {
		t.Errorf("status %d, %q, %s", status, stdout.String(), stderr)
	}
}

// An interruption ends the wait for a writer, and the wait for a writer's output.
func TestFIFOInterrupted(t *testing.T) {
	for name, writes := range map[string]bool{"without a writer": false, "with a silent writer": true} {
		t.Run(name, func(t *testing.T) {
			fifo := makeFIFO(t)
			ctx, interrupt := context.WithCancel(t.Context())
			if writes {
				writer, err := os.OpenFile(fifo, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer writer.Close()
			}
			time.AfterFunc(100*time.Millisecond, interrupt)
			status, stderr := decodeFIFO(ctx, t, io.Discard, fifo)
			if status != statusInterrupted || stderr != "ktel: interrupted\n" {
				t.Errorf("status %d, %s", status, stderr)
			}
			if !writes { // end the open that still waits
				writer, err := os.OpenFile(fifo, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				writer.Close()
			}
		})
	}
}

// The second interruption ends the process even if the first one cannot, here because a write to standard output is
// blocked.
func TestInterruptedTwice(t *testing.T) {
	program, err := exec.LookPath("ktel") // testscript's link to this test program
	if err != nil {
		t.Fatal(err)
	}
	output, stdout, err := os.Pipe() // no process reads it
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	defer stdout.Close()
	name := filepath.Join(t.TempDir(), "events")
	long := strings.Replace(fifoEvent, `"t"`, `"`+strings.Repeat("t", 1<<20)+`"`, 1) // more than the pipe holds, in one write
	if err := os.WriteFile(name, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	process := exec.Command(program, "decode", name)
	process.Stdout = stdout
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- process.Wait() }()
	if _, err := output.Read(make([]byte, 1)); err != nil { // the process handles signals by now, and its write is blocked
		t.Fatal(err)
	}
	for interruptions := 0; ; interruptions++ { // on a busy machine two may count as one
		select {
		case <-ended:
			if status := process.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGINT {
				t.Errorf("%v", process.ProcessState)
			}
			if interruptions < 2 {
				t.Errorf("the process ended after %d interruptions", interruptions)
			}
			return
		case <-time.After(500 * time.Millisecond):
			if interruptions == 100 {
				_ = process.Process.Kill()
				t.Fatal("the process did not end")
			}
			_ = process.Process.Signal(os.Interrupt)
		}
	}
}
