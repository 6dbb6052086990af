package extension

import (
	"io"
	"log/slog"
	"math"
)

// levelAlways is for the line that is written whatever LOG_LEVEL says.
const levelAlways = slog.Level(math.MaxInt)

// NewLog returns the log of the extension's own few lines. Lambda puts the time to each line, so they have none.
func NewLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch {
			case a.Key == slog.TimeKey:
				return slog.Attr{}
			case a.Key == slog.LevelKey && a.Value.Any() == levelAlways:
				a.Value = slog.StringValue("INFO")
			}
			return a
		},
	})).With("extension", "kinesis-telemetry-extension")
}
