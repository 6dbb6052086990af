package session

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	smithy "github.com/aws/smithy-go/middleware"
)

// skew is how far the endpoint's clock is ahead of ours. Replies have a time in whole seconds, so the skew is an
// interval. An interval that includes 0 counts as no skew.
type skew struct {
	atLeast, atMost time.Duration
	known           bool // replies have a time
}

// skewOf computes the skew from a reply to a request that was sent at asked.
func skewOf(reply smithy.Metadata, asked time.Time) skew {
	least, known := middleware.GetAttemptSkew(reply)
	answered, _ := middleware.GetResponseAt(reply)
	most := least + time.Second + answered.Sub(asked)
	if !known || least <= 0 && most >= 0 {
		return skew{known: known}
	}
	return skew{least, most, true}
}

// Now returns the time of the endpoint's clock, accurate to a second, with the skew that WaitActive measured.
func (s *Stream) Now() time.Time { return time.Now().Add(s.skew.atLeast) }

// endTime returns a time after the arrival of all records so far, as far as the skew is known. It is a whole
// millisecond, as arrival times are.
func (s *Stream) endTime() time.Time {
	return time.Now().Add(s.skew.atMost).Truncate(time.Millisecond).Add(time.Millisecond)
}
