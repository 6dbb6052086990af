//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync/atomic"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
)

const localShards = 2 // of a stream that ktel makes for a trial

// destination is how the extension finds the stream.
type destination struct {
	stream, endpoint, region string
	credentials              sandbox.Credentials
}

// stream is a Kinesis stream that is read back while a trial writes to it. Each record is handed on as it is seen.
type stream interface {
	destination() destination
	// drain returns when no further record is to be expected; complete tells whether all that was emitted has arrived.
	drain(ctx context.Context, complete func() bool) error
	// throttled counts the records that the shards refused as too much at a time, where that is known.
	throttled() int64
	// close ends the reading; no record is handed on after it.
	close() error
}

// localStream is a stream in this process.
type localStream struct {
	server *kinesislocal.Server
	dest   destination
	closed atomic.Bool
	kept   *servedKinesis // nil: it ends with the trial
}

// keepLocalStream makes a stream that stays when the trial has ended, until somebody closes kept. All on this machine may use it.
func keepLocalStream(ctx context.Context, limited bool, record func(partitionKey string, data []byte)) (*localStream, error) {
	s := &localStream{}
	options := kinesislocal.Options{Region: localRegion, AnyRegion: true, OnRecord: func(_ string, r kinesislocal.Record) {
		if !s.closed.Load() { // what comes later is none of the trial's
			record(r.PartitionKey, r.Data)
		}
	}}
	if !limited {
		options.ShardBytesPerSecond, options.ShardRecordsPerSecond = -1, -1
	}
	s.server = kinesislocal.New(options)
	if err := s.server.CreateStream(defaultStream, localShards); err != nil {
		return nil, fmt.Errorf("create the stream on this machine: %w", err)
	}
	listener, err := listenLoopback(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.kept = serveOn(listener, s.server, "")
	s.dest = destination{defaultStream, s.kept.url, localRegion, sandbox.Credentials{AccessKeyID: "local", SecretAccessKey: "local"}}
	return s, nil
}

// openLocalStream makes a stream with the limits of AWS's shards, or without any.
func openLocalStream(limited bool, record func(partitionKey string, data []byte)) (*localStream, error) {
	// Keys that are made up for this one trial: the endpoint then checks that requests are signed with them.
	credentials := sandbox.Credentials{AccessKeyID: "ASIA" + rand.Text()[:16], SecretAccessKey: rand.Text(), SessionToken: rand.Text()}
	options := kinesislocal.Options{
		Region:        localRegion,
		Credentials:   map[string]string{credentials.AccessKeyID: credentials.SecretAccessKey},
		SessionTokens: map[string]kinesislocal.SessionToken{credentials.AccessKeyID: {Token: credentials.SessionToken}},
		OnRecord:      func(_ string, r kinesislocal.Record) { record(r.PartitionKey, r.Data) },
	}
	if !limited {
		options.ShardBytesPerSecond, options.ShardRecordsPerSecond = -1, -1
	}
	server, err := kinesislocal.Start(options)
	if err != nil {
		return nil, fmt.Errorf("start the Kinesis endpoint on this machine: %w", err)
	}
	if err := server.CreateStream(defaultStream, localShards); err != nil {
		_ = server.Close()
		return nil, fmt.Errorf("create the stream on this machine: %w", err)
	}
	return &localStream{server: server, dest: destination{defaultStream, server.URL(), localRegion, credentials}}, nil
}

func (s *localStream) destination() destination { return s.dest }

// drain has nothing to wait for: a record is handed on before the answer to the request that brought it.
func (s *localStream) drain(context.Context, func() bool) error { return nil }

func (s *localStream) throttled() int64 {
	return s.server.Stats().Operations["PutRecords"].Records["ProvisionedThroughputExceededException"].Count
}

func (s *localStream) close() error {
	s.closed.Store(true)
	if s.kept != nil {
		return nil
	}
	return s.server.Close()
}
