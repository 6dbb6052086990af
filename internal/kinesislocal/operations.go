package kinesislocal

import (
	"maps"
	"slices"
	"time"
)

const (
	maxStreamsPage     = 10000
	maxDescribedShards = 10000
	streamsPage        = 100
	describedShards    = 100 // the default page of DescribeStream
	retentionHours     = 24
	modeProvisioned    = "PROVISIONED"
	modeOnDemand       = "ON_DEMAND"
	encryptionType     = "NONE"
)

// call is the state of one request.
type call struct {
	operation string // "" until it is known
	size      int    // of the body
	in        fields
	now       time.Time
	fault     fault

	// For OnCall.
	stream          string
	records, failed int
}

type emptyReply struct{} // a reply without a body

// operation returns the operation's function, or nil if there is no operation of this name.
func (s *Server) operation(name string) func(*call) (any, error) {
	switch name {
	case "CreateStream":
		return s.createStream
	case "DeleteStream":
		return s.deleteStream
	case "DescribeStream":
		return s.describeStream
	case "DescribeStreamSummary":
		return s.describeStreamSummary
	case "ListStreams":
		return s.listStreams
	case "ListShards":
		return s.listShards
	case "SplitShard":
		return s.splitShard
	case "MergeShards":
		return s.mergeShards
	case "GetShardIterator":
		return s.getShardIterator
	case "GetRecords":
		return s.getRecords
	case "PutRecord":
		return s.putRecord
	case "PutRecords":
		return s.putRecords
	}
	return nil
}

// target is the name and the ARN of a request's stream.
type target struct{ name, arn *string }

func (f *fields) target() target { return target{f.text("StreamName"), f.text("StreamARN")} }

// find returns the request's stream and records its name for OnCall. The caller holds s.mu.
func (s *Server) find(t target, c *call) (*stream, error) {
	st, err := s.resolve(t, c.operation)
	if err == nil {
		c.stream = st.name
	}
	return st, err
}

func (s *Server) resolve(t target, operation string) (*stream, error) {
	if t.name != nil {
		if err := checkName("streamName", *t.name); err != nil {
			return nil, err
		}
	}
	if t.arn == nil && t.name == nil {
		return nil, invalidArgument("Either StreamName or StreamARN must be specified.")
	}
	if t.arn == nil {
		return s.lookUp(*t.name, s.options.AccountID)
	}
	part := arnPattern.FindStringSubmatch(*t.arn)
	if part == nil {
		return nil, constraint("streamARN", `satisfy regular expression pattern: arn:aws.*:kinesis:.*:\d{12}:stream/\S+`)
	}
	region, account, name := part[2], part[3], part[4]
	switch {
	case t.name != nil && *t.name != name:
		return nil, invalidArgument("StreamARN %s and StreamName %s do not name the same stream.", *t.arn, *t.name)
	case account != s.options.AccountID:
		// Another account's stream needs a resource policy, which this server does not have:
		// https://docs.aws.amazon.com/streams/latest/dev/controlling-access.html
		return nil, newError(codeAccessDenied, "User: arn:%s:iam::%s:user/local is not authorized to perform: kinesis:%s on resource: %s "+
			"because no resource-based policy allows the kinesis:%s action",
			partition(s.options.Region), s.options.AccountID, operation, *t.arn, operation)
	case region != s.options.Region || part[1] != partition(region):
		return nil, s.notFound(name, account)
	}
	return s.lookUp(name, account)
}

func (s *Server) lookUp(name, account string) (*stream, error) {
	if st := s.streams[name]; st != nil {
		return st, nil
	}
	return nil, s.notFound(name, account)
}

func (s *Server) notFound(name, account string) error {
	return newError(codeResourceNotFound, "Stream %s under account %s not found.", name, account)
}

func (s *Server) createStream(c *call) (any, error) {
	name, mode := c.in.text("StreamName"), modeProvisioned
	details := c.in.structure("StreamModeDetails")
	if m := details.text("StreamMode"); m != nil {
		mode = *m
	}
	shards, maxKiB := c.in.integer("ShardCount", 0), c.in.integer("MaxRecordSizeInKiB", minRecordKiB)
	strategy := c.in.text("RecordDistributionStrategy")
	switch {
	case c.in.err != nil:
		return nil, c.in.err
	case details.err != nil:
		return nil, details.err
	case name == nil:
		return nil, constraint("streamName", "not be null")
	case mode != modeProvisioned && mode != modeOnDemand:
		return nil, constraint("streamModeDetails.streamMode", "satisfy enum value set: [PROVISIONED, ON_DEMAND]")
	case strategy != nil && *strategy != "USER_PARTITION_KEY":
		return nil, invalidArgument("RecordDistributionStrategy %s is not emulated here.", *strategy)
	case mode == modeOnDemand:
		shards = onDemandShards
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.create(*name, mode, shards, maxKiB, c.now)
	if err == nil {
		c.stream = *name
	}
	return emptyReply{}, err
}

// create adds a stream. The caller holds s.mu.
func (s *Server) create(name, mode string, shards, maxKiB int, now time.Time) error {
	if err := checkName("streamName", name); err != nil {
		return err
	}
	total := shards
	for _, st := range s.streams {
		total += len(st.openShards)
	}
	switch {
	case shards < 1:
		return constraint("shardCount", "have value greater than or equal to 1")
	case maxKiB < minRecordKiB:
		return constraint("maxRecordSizeInKiB", "have value greater than or equal to %d", minRecordKiB)
	case maxKiB > maxRecordKiB:
		return constraint("maxRecordSizeInKiB", "have value less than or equal to %d", maxRecordKiB)
	case s.streams[name] != nil:
		return newError(codeResourceInUse, "Stream %s under account %s already exists.", name, s.options.AccountID)
	case total > accountShards:
		return newError(codeLimitExceeded, "This request would exceed the shard limit for the account %s in %s. "+
			"Current shard count for the account: %d. Limit: %d. Number of additional shards that would have resulted from this request: %d.",
			s.options.AccountID, s.options.Region, total-shards, accountShards, shards)
	}
	arn := "arn:" + partition(s.options.Region) + ":kinesis:" + s.options.Region + ":" + s.options.AccountID + ":stream/" + name
	st := newStream(name, arn, mode, shards, maxKiB, now)
	for _, sh := range st.shards {
		s.setLimits(sh, now)
	}
	s.streams[name] = st
	return nil
}

func (s *Server) deleteStream(c *call) (any, error) {
	t := c.in.target()
	if c.in.err != nil {
		return nil, c.in.err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(t, c)
	if err != nil {
		return nil, err
	}
	delete(s.streams, st.name)
	return emptyReply{}, nil
}

// describeStream serves DescribeStream, which the waiters of AWS's SDKs and CLI call.
func (s *Server) describeStream(c *call) (any, error) {
	t, limit, after := c.in.target(), c.in.integer("Limit", describedShards), c.in.text("ExclusiveStartShardId")
	switch {
	case c.in.err != nil:
		return nil, c.in.err
	case limit < 1:
		return nil, constraint("limit", "have value greater than or equal to 1")
	case limit > maxDescribedShards:
		return nil, constraint("limit", "have value less than or equal to %d", maxDescribedShards)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(t, c)
	if err != nil {
		return nil, err
	}
	d := description{
		StreamName: st.name, StreamARN: st.arn, StreamStatus: "ACTIVE", StreamModeDetails: streamMode{st.mode}, Shards: []shardDescription{},
		RetentionPeriodHours: retentionHours, StreamCreationTimestamp: epoch(st.created),
		EnhancedMonitoring: []metrics{{ShardLevelMetrics: []string{}}}, EncryptionType: encryptionType,
	}
	for _, sh := range st.shards {
		if after != nil && sh.id <= *after {
			continue
		}
		if d.HasMoreShards = len(d.Shards) == limit; d.HasMoreShards {
			break
		}
		d.Shards = append(d.Shards, st.describe(sh))
	}
	return struct{ StreamDescription description }{d}, nil
}

type description struct {
	StreamName              string
	StreamARN               string
	StreamStatus            string
	StreamModeDetails       streamMode
	Shards                  []shardDescription
	HasMoreShards           bool
	RetentionPeriodHours    int
	StreamCreationTimestamp float64
	EnhancedMonitoring      []metrics
	EncryptionType          string
}

type streamMode struct{ StreamMode string }

type metrics struct{ ShardLevelMetrics []string }

type summary struct {
	StreamName              string
	StreamARN               string
	StreamStatus            string
	StreamModeDetails       streamMode
	RetentionPeriodHours    int
	StreamCreationTimestamp float64
	EnhancedMonitoring      []metrics
	EncryptionType          string
	OpenShardCount          int
	ConsumerCount           int
	MaxRecordSizeInKiB      int
	// RecordDistributionStrategy "is only present for streams that use the on-demand capacity mode".
	RecordDistributionStrategy string `json:",omitempty"`
}

func (s *Server) describeStreamSummary(c *call) (any, error) {
	t := c.in.target()
	if c.in.err != nil {
		return nil, c.in.err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(t, c)
	if err != nil {
		return nil, err
	}
	d := summary{
		StreamName: st.name, StreamARN: st.arn, StreamStatus: "ACTIVE", StreamModeDetails: streamMode{st.mode},
		RetentionPeriodHours: retentionHours, StreamCreationTimestamp: epoch(st.created),
		EnhancedMonitoring: []metrics{{ShardLevelMetrics: []string{}}}, EncryptionType: encryptionType,
		OpenShardCount: len(st.openShards), MaxRecordSizeInKiB: st.maxRecord >> 10,
	}
	if st.mode == modeOnDemand {
		d.RecordDistributionStrategy = "USER_PARTITION_KEY"
	}
	return struct{ StreamDescriptionSummary summary }{d}, nil
}

// epoch returns a time in the protocol's form: seconds since 1970 with milliseconds.
func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

type streamSummary struct {
	StreamName, StreamARN, StreamStatus string
	StreamModeDetails                   streamMode
	StreamCreationTimestamp             float64
}

func (s *Server) listStreams(c *call) (any, error) {
	limit, after, token := c.in.integer("Limit", streamsPage), c.in.text("ExclusiveStartStreamName"), c.in.text("NextToken")
	switch {
	case c.in.err != nil:
		return nil, c.in.err
	case limit < 1:
		return nil, constraint("limit", "have value greater than or equal to 1")
	case limit > maxStreamsPage:
		return nil, constraint("limit", "have value less than or equal to %d", maxStreamsPage)
	}
	if token != nil {
		cur, err := decodeCursor(*token, cursorStreams, "NextToken", c.now)
		if err != nil {
			return nil, err
		}
		after = &cur.Stream
	}
	var reply struct {
		StreamNames     []string
		StreamSummaries []streamSummary
		HasMoreStreams  bool
		NextToken       string `json:",omitempty"`
	}
	reply.StreamNames, reply.StreamSummaries = []string{}, []streamSummary{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.streams)) {
		if after != nil && name <= *after {
			continue
		}
		if len(reply.StreamNames) == limit {
			reply.HasMoreStreams = true
			reply.NextToken = cursor{Kind: cursorStreams, Stream: reply.StreamNames[limit-1], Issued: c.now}.encode()
			break
		}
		st := s.streams[name]
		reply.StreamNames = append(reply.StreamNames, name)
		reply.StreamSummaries = append(reply.StreamSummaries,
			streamSummary{st.name, st.arn, "ACTIVE", streamMode{st.mode}, epoch(st.created)})
	}
	return reply, nil
}
