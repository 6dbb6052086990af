package main

import (
	"errors"
	"time"
)

// moment is a flag that takes a point in time: how long ago it was, or a time with its zone.
type moment struct {
	at *time.Time
}

func (m moment) String() string {
	if m.at == nil || m.at.IsZero() { // pflag asks a zero value
		return ""
	}
	return m.at.Format(time.RFC3339)
}

func (m moment) Set(s string) error {
	if ago, err := time.ParseDuration(s); err == nil {
		if ago < 0 {
			return errors.New("it takes how long ago, such as 5m: without a sign")
		}
		*m.at = time.Now().Add(-ago)
		return nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return errors.New("it takes how long ago, such as 5m, or a time, such as 2026-11-23T18:00:00Z")
	}
	*m.at = at
	return nil
}

// Type stands in the usage text for the value.
func (m moment) Type() string { return "TIME" }
