// Package audit finds the events that were lost, duplicated or altered on the way to a stream.
//
// [Audit] compares the events that a function emitted with the lines of the stream. It has its own strict reader of lines and
// uses none of the code that it checks. It compares Lambda's members as bytes, never as decoded values. An event is delivered
// if a line has its time, type and record byte for byte. Two equal events need two lines: the comparison is one of multisets.
// A line's (source.instance, seq) distinguishes a copy of an event from an equal event.
//
// [Completeness] knows only the stream, of any size, and checks the numbers of its events. Both keep numbers as [Ranges].
package audit
