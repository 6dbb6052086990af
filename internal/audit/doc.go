// Package audit says what was lost, duplicated or altered on the way to a stream.
//
// [Audit] compares what a function emitted with what the stream holds. It takes nothing from the code that it judges: lines are read here
// anew, strictly, and the members that came from Lambda are compared as bytes, never as decoded values. An event is delivered when some
// line has its time, type and record byte for byte; the comparison is one of multisets, so that two equal events need two lines. A line's
// (source.instance, seq) tells a copy of an event from an equal event.
//
// [Completeness] has the stream alone, of any size, and judges by the numbers of events. Both keep those in [Ranges].
package audit
