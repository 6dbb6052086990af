// Replay is a function that prints a number of lines from a file. The next event continues after them.
package main

import (
	"bufio"
	"bytes"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
)

type event struct {
	File  string `json:"file"`
	Lines int    `json:"lines"`
}

func main() {
	var lines [][]byte
	next := 0
	lambda.Start(func(e event) (string, error) {
		if lines == nil {
			text, err := os.ReadFile(e.File)
			if err != nil {
				return "", err
			}
			lines = bytes.SplitAfter(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
		}
		out := bufio.NewWriter(os.Stdout)
		for range e.Lines {
			_, _ = out.Write(append(bytes.TrimRight(lines[next], "\r\n"), '\n')) // Flush returns the error
			next = (next + 1) % len(lines)
		}
		return "printed", out.Flush()
	})
}
