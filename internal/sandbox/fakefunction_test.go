//go:build unix

package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// task is the behaviour of the fake function in one invocation. It is the invocation's payload.
type task struct {
	Lines int    // number of lines to print
	Text  string // of each line, after its number; if Lines is 0, the bytes to print
	Err   string // to print to stderr
	Sleep int    // ms
	Await string // file to wait for
	Exit  int    // exit status, if not 0
	Fail  string // error to return
	Panic bool
	Env   bool
}

type typedError struct{ msg string }

func (e typedError) Error() string { return e.msg }

func handle(ctx context.Context, o task) (any, error) {
	var b bytes.Buffer
	for i := range o.Lines {
		fmt.Fprintf(&b, "%d %s\n", i, o.Text)
	}
	if o.Lines == 0 {
		b.WriteString(o.Text)
	}
	_, _ = os.Stdout.Write(b.Bytes())
	_, _ = os.Stderr.WriteString(o.Err)
	time.Sleep(time.Duration(o.Sleep) * time.Millisecond)
	if o.Await != "" {
		awaitFile(o.Await)
	}
	switch {
	case o.Exit != 0:
		os.Exit(o.Exit)
	case o.Panic:
		panic("requested")
	case o.Fail != "":
		return nil, typedError{o.Fail}
	case o.Env:
		return os.Environ(), nil
	}
	lc, ok := lambdacontext.FromContext(ctx)
	if !ok {
		return nil, errors.New("no Lambda context")
	}
	return lc.AwsRequestID + " " + lc.InvokedFunctionArn, nil
}

// awaitFile waits until a file exists.
func awaitFile(path string) {
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
}

func runFunction(mode string) {
	if mode == "exit" {
		fmt.Println("cannot find my settings")
		os.Exit(7)
	}
	if mode == "sigterm" {
		lambda.StartWithOptions(handle, lambda.WithEnableSIGTERM(func() {
			fmt.Println("function got SIGTERM")
			os.Exit(0)
		}))
	}
	if mode == "ignore SIGTERM" {
		signal.Ignore(syscall.SIGTERM)
	}
	if mode == "once" { // exits in the first generation, when the extension has subscribed
		if _, err := os.Stat(os.Getenv("MARKER")); err != nil {
			_ = os.WriteFile(os.Getenv("MARKER"), nil, 0o600)
			awaitFile(os.Getenv("SUBSCRIBED"))
			os.Exit(7)
		}
	}
	if mode == "stream" {
		lambda.Start(func(context.Context, task) (io.Reader, error) {
			r, w := io.Pipe()
			go func() {
				for i := range 3 {
					_, _ = fmt.Fprintf(w, "part %d;", i)
					time.Sleep(500 * time.Millisecond)
				}
				_ = w.Close()
			}()
			return r, nil
		})
	}
	lambda.Start(handle)
}

// runPoller is a runtime for Managed Instances that polls for invocations concurrently. It answers each with its
// payload, the first ones only when every poller has one.
func runPoller() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	n, _ := strconv.Atoi(os.Getenv("AWS_LAMBDA_MAX_CONCURRENCY"))
	var all, pollers sync.WaitGroup
	all.Add(n)
	for range n {
		pollers.Go(func() {
			first := true
			for {
				resp, err := http.Get(api + "next")
				if err != nil {
					return
				}
				body, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if string(body) == `"crash"` {
					os.Exit(9)
				}
				fmt.Printf("{\"message\":%s}\n", body)
				if first {
					all.Done()
					all.Wait()
					first = false
				}
				resp, err = http.Post(api+resp.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", "application/json", bytes.NewReader(body))
				if err == nil {
					_ = resp.Body.Close()
				}
			}
		})
	}
	pollers.Wait()
}
