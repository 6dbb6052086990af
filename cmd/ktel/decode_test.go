package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"
)

// What is piped in one by one comes out one by one, and an interruption ends a wait for more.
func TestDecodeLive(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	stdin, in := io.Pipe()
	out, stdout := io.Pipe()
	var stderr strings.Builder
	ended := make(chan int)
	go func() {
		ended <- run(ctx, []string{"decode"}, stdin, stdout, &stderr)
		stdout.Close()
	}()
	lines := bufio.NewReader(out)
	for range 3 {
		const event = `{"time":"t","seq":0,"source":{"instance":"i"}}` + "\n"
		if _, err := io.WriteString(in, event); err != nil {
			t.Fatal(err)
		}
		if line, err := lines.ReadString('\n'); err != nil || line != event {
			t.Fatalf("%q, %v", line, err)
		}
	}
	interrupt()
	if status := <-ended; status != statusInterrupted || stderr.String() != "ktel: interrupted\n" {
		t.Errorf("status %d, %s", status, stderr.String())
	}
	in.Close()
}
