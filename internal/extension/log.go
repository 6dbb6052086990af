package extension

import (
	"io"
	"log/slog"
)

// NewLog returns the log of the extension's own few lines. Lambda puts the time to each line, so they have none.
func NewLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})).With("extension", "kinesis-telemetry-extension")
}
