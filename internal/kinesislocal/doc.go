// Package kinesislocal is a Kinesis Data Streams endpoint over HTTP on this machine, for tests, demos and development without
// an AWS account. It injects faults by rules: see [Faults].
//
// It does not emulate persistence (records are in memory until DeleteStream or Close), retention and trimming,
// UpdateShardCount, stream states other than ACTIVE, AWS's adaptive on-demand capacity (an on-demand stream has four fixed
// shards), encryption, consumers with enhanced fan-out, tags, policies (every valid signature is allowed everything),
// RecordDistributionStrategy AUTO, the read limits of a shard, the call limits of control operations, presigned URLs, CBOR,
// TLS and HTTP/2.
//
// It emulates, with AWS's limits and error bodies: CreateStream, DeleteStream, DescribeStream, DescribeStreamSummary,
// ListStreams, ListShards with its filters, SplitShard, MergeShards, GetShardIterator, GetRecords, PutRecord and PutRecords in
// AWS JSON 1.1, addressed by StreamName or StreamARN; partition keys hashed to shards; the write limits of each shard; DryRun;
// signature version 4.
package kinesislocal
