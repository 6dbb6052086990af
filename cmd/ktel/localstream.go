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

const localShards = 2 // of a stream that ktel creates for a trial

// destination is where the extension finds the stream.
type destination struct {
	stream, endpoint, region string
	credentials              sandbox.Credentials
}

// stream is a Kinesis stream that is read while a trial writes to it. Each record is passed on as it arrives.
type stream interface {
	destination() destination
	// drain returns when no more records are expected. complete reports whether all emitted events have arrived.
	drain(ctx context.Context, complete func() bool) error
	// throttled returns how many records the shards throttled, or 0 if that is unknown.
	throttled() int64
	// close ends reading: no record is passed on afterwards.
	close() error
}

// localStream is a stream in this process.
type localStream struct {
	server *kinesislocal.Server
	dest   destination
	closed atomic.Bool
	shared *servedKinesis // nil: the stream ends with the trial
}

// keepLocalStream creates a stream that outlives the trial until shared is closed. Every program on this machine can use it.
func keepLocalStream(ctx context.Context, limited bool, record func(partitionKey string, data []byte)) (*localStream, error) {
	s := &localStream{}
	options := kinesislocal.Options{Region: localRegion, AnyRegion: true, OnRecord: func(_ string, r kinesislocal.Record) {
		if !s.closed.Load() { // later records are not the trial's
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
	s.shared = serveOn(listener, s.server, "")
	s.dest = destination{defaultStream, s.shared.url, localRegion, sandbox.Credentials{AccessKeyID: "local", SecretAccessKey: "local"}}
	return s, nil
}

// openLocalStream creates a stream in this process, with or without the limits of AWS's shards.
func openLocalStream(limited bool, record func(partitionKey string, data []byte)) (*localStream, error) {
	// Keys for this trial only: the endpoint checks that requests are signed with them.
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

// drain does not wait: a record is passed on before its request is answered.
func (s *localStream) drain(context.Context, func() bool) error { return nil }

func (s *localStream) throttled() int64 {
	return s.server.Stats().Operations["PutRecords"].Records["ProvisionedThroughputExceededException"].Count
}

func (s *localStream) close() error {
	s.closed.Store(true)
	if s.shared != nil {
		return nil
	}
	return s.server.Close()
}
