// Package audit compares what a function emitted with what a stream holds, and says what was lost, duplicated or
// altered on the way.
//
// It takes nothing from the code that it judges: the lines of a record are read here anew, strictly, and the members
// that came from Lambda are compared as bytes, never as decoded values. An event is delivered when some line has its
// time, type and record byte for byte; the comparison is one of multisets, so that two equal events need two lines.
// A line's (source.instance, seq) tells a copy of an event from an equal event.
//
// Understood are records of the formats ndjson and json, uncompressed.
package audit
