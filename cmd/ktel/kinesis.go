package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/session"
)

const (
	localRegion   = "us-east-1"
	kinesisListen = "127.0.0.1:4567" // where clients look for emulators of Kinesis
	// maxShards is more than a laptop needs, and less than the account's limit for all streams.
	maxShards = 1000
)

const kinesisLong = `kinesis serves Kinesis data streams on this machine to the AWS SDKs, the AWS CLI
and ktel. It accepts any credentials and any region. It keeps the records in
memory until ctrl-C.

Its shards have AWS's limits, and its faults look like those of Kinesis. FAULTS
is a list of words, separated by commas. To change it while kinesis runs, type
'ktel kinesis fault FAULTS':

` + faultWords + `

P is the share of the requests, 0 to 1 (default 1). @FILE contains rules as JSON.

Not supported: retention, encryption, enhanced fan-out, policies,
UpdateShardCount, CBOR, TLS.

`

const kinesisStatuses = `Exit status:
    0  stopped by ctrl-C
    2  the command line, or a file that it names, is wrong
    4  ktel failed`

type kinesisFlags struct {
	listen     string
	streams    []string
	faults     string
	region     string
	log        bool
	noThrottle bool
}

func (a *app) kinesisCommand() *cobra.Command {
	f := &kinesisFlags{}
	cmd := &cobra.Command{
		Use:   "kinesis [flags]",
		Short: "Serve Kinesis streams on this machine, with faults",
		Long:  kinesisLong + kinesisStatuses,
		Example: `  ktel kinesis --stream orders:4 --log
  ktel kinesis --fault throttle=0.3,latency=50ms
  ktel kinesis fault none`,
		DisableFlagsInUseLine: true,
		Args:                  noArguments("ktel kinesis --stream NAME:SHARDS"),
		RunE:                  func(cmd *cobra.Command, _ []string) error { return a.kinesis(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringArrayVar(&f.streams, "stream", nil,
		fmt.Sprintf("create the stream `NAME[:SHARDS]`, by default with one shard; repeatable (default %s:1)", defaultStream))
	flags.StringVar(&f.faults, "fault", "", "`FAULTS` of requests, such as throttle=0.3,latency=50ms")
	flags.BoolVar(&f.log, "log", false, "print a line for each call")
	flags.StringVar(&f.listen, "listen", kinesisListen, "loopback `ADDRESS` to listen at; port 0 selects a free one")
	flags.StringVar(&f.region, "region", localRegion, "AWS `REGION` in the ARNs of the streams")
	flags.BoolVar(&f.noThrottle, "no-throttle", false, "remove the shard limits (1 MiB and 1,000 records a second)")
	cmd.AddCommand(a.kinesisFaultCommand())
	return cmd
}

// newStream is a stream to create.
type newStream struct {
	name   string
	shards int
}

func parseStreams(texts []string) ([]newStream, error) {
	if len(texts) == 0 {
		return []newStream{{defaultStream, 1}}, nil
	}
	const hint = "--stream NAME or --stream NAME:SHARDS"
	streams, seen := make([]newStream, 0, len(texts)), map[string]bool{}
	for _, text := range texts {
		name, count, counted := strings.Cut(text, ":")
		if name == "arn" || (session.Target{Stream: name}).Validate() != nil {
			return nil, usageError(fmt.Sprintf("--stream %q: a name has 1 to 128 of A-Z a-z 0-9 _ . -", text), hint)
		}
		s := newStream{name, 1}
		if counted {
			var err error
			if s.shards, err = strconv.Atoi(count); err != nil || s.shards < 1 || s.shards > maxShards {
				return nil, usageError(fmt.Sprintf("--stream %q: SHARDS must be a whole number from 1 to %s", text, grouped(maxShards)), hint)
			}
		}
		if seen[name] {
			return nil, usageError(fmt.Sprintf("--stream %s is given twice", name))
		}
		seen[name] = true
		streams = append(streams, s)
	}
	return streams, nil
}

// listenLoopback opens a port that no other machine can reach.
func listenLoopback(ctx context.Context, address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if _, notPort := strconv.ParseUint(port, 10, 16); err != nil || notPort != nil {
		return nil, usageError(fmt.Sprintf("--listen %q is not an address", address), "HOST:PORT, such as "+kinesisListen)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, usageError(fmt.Sprintf("--listen %s: kinesis accepts all credentials, so it listens on loopback only", address),
			"127.0.0.1:PORT or [::1]:PORT")
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, cannot(fmt.Errorf("another program listens at %s", address), "--listen 127.0.0.1:0 selects a free port")
	}
	if err != nil {
		return nil, cannot(err)
	}
	return listener, nil
}

// kinesis serves until ctx ends.
func (a *app) kinesis(ctx context.Context, f *kinesisFlags) error {
	streams, err := parseStreams(f.streams)
	if err != nil {
		return err
	}
	faults, err := readFaults(f.faults)
	if err != nil {
		return err
	}
	options := kinesislocal.Options{Region: f.region, AnyRegion: true, Faults: faults.rules}
	if f.noThrottle {
		options.ShardBytesPerSecond, options.ShardRecordsPerSecond = -1, -1
	}
	if f.log {
		options.OnCall = a.callLog()
	}
	server := kinesislocal.New(options)
	for _, s := range streams {
		if err := server.CreateStream(s.name, s.shards); err != nil {
			return usageError(fmt.Sprintf("--stream %s:%d: %v", s.name, s.shards, err))
		}
	}
	listener, err := listenLoopback(ctx, f.listen)
	if err != nil {
		return err
	}
	k := serveOn(listener, server, faults.text)
	if err := k.serveUntil(ctx, a.stdout, f.region, streams, faults.text); err != nil {
		return cannot(err)
	}
	return nil
}

// servedKinesis is a Kinesis endpoint that every program on this machine can use.
type servedKinesis struct {
	url     string
	server  *kinesislocal.Server
	web     *http.Server
	serving sync.WaitGroup
}

// serveOn serves until close, which also closes the listener.
func serveOn(listener net.Listener, server *kinesislocal.Server, faults string) *servedKinesis {
	k := &servedKinesis{url: "http://" + listener.Addr().String(), server: server, web: &http.Server{
		Handler: &faultHandler{server: server, text: faults}, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
	}}
	k.serving.Go(func() { _ = k.web.Serve(listener) }) // ends with close
	return k
}

func (k *servedKinesis) close() error {
	err := errors.Join(k.server.Close(), k.web.Close()) // closing the server ends requests that hang
	k.serving.Wait()
	return err
}

// serveUntil prints how to use the endpoint, and closes it when ctx ends.
func (k *servedKinesis) serveUntil(ctx context.Context, w io.Writer, region string, streams []newStream, faults string) error {
	_, err := io.WriteString(w, k.welcome(region, streams, faults))
	if err == nil {
		<-ctx.Done()
	}
	return errors.Join(err, k.close())
}

func (k *servedKinesis) welcome(region string, streams []newStream, faults string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Kinesis at %s\n", k.url)
	for _, s := range streams {
		fmt.Fprintf(&b, "  stream %s of %s\n", s.name, plural(s.shards, "shard"))
	}
	if faults != "" {
		fmt.Fprintf(&b, "  faults %s\n", printable(faults))
	}
	fmt.Fprintf(&b, `
For the AWS SDKs and the AWS CLI, with any credentials:
  export AWS_ENDPOINT_URL_KINESIS=%s
  export AWS_REGION=%s AWS_DEFAULT_REGION=%[2]s
  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local
then
  ktel tail %s
  ktel kinesis fault throttle=0.3,latency=50ms

Ctrl-C stops it and discards the records.
`, k.url, region, streams[0].name)
	return b.String()
}

// callLog returns a function that prints a line for each call. It ignores write errors: the server outlives the reader
// of the lines.
func (a *app) callLog() func(kinesislocal.Call) {
	var mu sync.Mutex // calls are concurrent
	colors := a.paletteFor(a.stdout)
	return func(c kinesislocal.Call) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintf(a.stdout, "%s %s\n", colors.dim(time.Now().UTC().Format("15:04:05.000")), callLine(colors, c))
	}
}

func callLine(colors palette, c kinesislocal.Call) string {
	operation := c.Operation
	if operation == "" {
		operation = "(unknown)"
	}
	parts := []string{pad(operation, len("GetShardIterator"))}
	if c.Stream != "" {
		parts = append(parts, c.Stream)
	}
	if c.Outcome != "OK" {
		parts = append(parts, colors.bad(c.Outcome))
	}
	if c.Records > 0 || c.Operation == "GetRecords" && c.Outcome == "OK" {
		parts = append(parts, plural(c.Records, "record"))
	}
	if c.Failed > 0 {
		parts = append(parts, colors.warn(grouped(int64(c.Failed))+" refused"))
	}
	return strings.Join(parts, " ")
}
