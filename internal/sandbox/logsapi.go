//go:build unix

package sandbox

// The Logs API is the Telemetry API's predecessor: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-logs-api.html.
// It has the same subscription, a different path, and its own platform events. AWS still serves it, except on Managed
// Instances.

const (
	schema20200815 = "2020-08-15" // also the default
	schema20210318 = "2021-03-18" // adds platform.runtimeDone
)

const logsAPIDroppedReason = "Consumer seems to have fallen behind as it has not acknowledged receipt of logs."

// The records of the Logs API's platform events. The guide lists their members, except version of platform.start, which
// was seen in captures.
type (
	logsStartRecord struct {
		RequestID string `json:"requestId"`
		Version   string `json:"version,omitempty"`
	}
	logsEndRecord struct {
		RequestID string `json:"requestId"`
	}
	logsRuntimeDoneRecord struct {
		RequestID string `json:"requestId"`
		Status    string `json:"status"`
	}
	logsReportRecord struct {
		RequestID string         `json:"requestId"`
		Metrics   any            `json:"metrics"`
		Tracing   *tracingRecord `json:"tracing,omitempty"`
	}
)

// logsRecord converts a record of the Telemetry API to the Logs API. It returns nil for events that the Logs API lacks:
// those of init and restore, and platform.telemetrySubscription.
func logsRecord(record any) any {
	switch r := record.(type) {
	case startRecord:
		return logsStartRecord{RequestID: r.RequestID, Version: r.Version}
	case runtimeDoneRecord:
		status := r.Status
		if status == statusError { // the guide lists success, failure and timeout; error as failure is a guess
			status = statusFailure
		}
		return logsRuntimeDoneRecord{RequestID: r.RequestID, Status: status}
	case reportRecord:
		return logsReportRecord{RequestID: r.RequestID, Metrics: r.Metrics, Tracing: r.Tracing}
	case extensionRecord:
		r.ErrorType = ""
		return r
	default:
		return nil
	}
}

// emitFault emits platform.fault, a string, if err ended the invocation before the runtime was done. The first text is the
// guide's sample. That a timeout is also a fault is a guess, and so is its text.
func (p *invokePhase) emitFault(err error) {
	text := "Process exited before completing request"
	switch {
	case err == nil:
		return
	case resetReason(err) == "timeout":
		text = "Error: " + p.timeoutMessage()
	}
	p.generation.hub.logsAPIOnly(p.number, "platform.fault", "RequestId: "+p.id+" "+text)
}
