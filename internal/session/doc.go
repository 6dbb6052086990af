// Package session reads a Kinesis data stream: every shard, through reshardings, expired iterators, throttling and
// restarts of the endpoint. All commands of ktel that read a stream share it. Each command formats its own output.
package session
