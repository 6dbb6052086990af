// Package session reads a Kinesis data stream back: every shard, through reshardings, expired iterators, throttling and endpoints that
// restart. It is what the verbs of ktel that look at a stream share; what they show of it is theirs.
package session
