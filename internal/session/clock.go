package session

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	smithy "github.com/aws/smithy-go/middleware"
)

// skew is how far the endpoint's clock is ahead of ours, at least and at most. Replies tell their time to the second: where ours may be
// right, it is taken to be.
type skew struct {
	atLeast, atMost time.Duration
	known           bool // replies tell their time
}

// skewOf reads the clock from a reply.
func skewOf(reply smithy.Metadata, asked time.Time) skew {
	least, known := middleware.GetAttemptSkew(reply)
	answered, _ := middleware.GetResponseAt(reply)
	most := least + time.Second + answered.Sub(asked)
	if !known || least <= 0 && most >= 0 {
		return skew{known: known}
	}
	return skew{least, most, true}
}

// Now is the time of the stream's endpoint, to the second at least, as Ready learned it.
func (s *Stream) Now() time.Time { return time.Now().Add(s.skew.atLeast) }

// end is a time behind the records that have arrived, as far as the clocks tell. It is to the millisecond, as arrivals are.
func (s *Stream) endTime() time.Time {
	return time.Now().Add(s.skew.atMost).Truncate(time.Millisecond).Add(time.Millisecond)
}
