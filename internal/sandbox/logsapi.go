//go:build unix

package sandbox

// The Logs API is the Telemetry API's predecessor: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-logs-api.html. It has
// the same subscription, another path, and platform events of its own. AWS still serves it, except on Managed Instances.

const (
	schema20200815 = "2020-08-15" // also the default
	schema20210318 = "2021-03-18" // adds platform.runtimeDone
)

const logsAPIDroppedReason = "Consumer seems to have fallen behind as it has not acknowledged receipt of logs."

// The records of its platform events. The guide has their members; version, in platform.start, is in captures only.
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

// logsRecord is the record that the Logs API has for a record of the Telemetry API, nil where it has no such event: nothing of
// init and restore, and no platform.telemetrySubscription.
func logsRecord(record any) any {
	switch r := record.(type) {
	case startRecord:
		return logsStartRecord{RequestID: r.RequestID, Version: r.Version}
	case runtimeDoneRecord:
		status := r.Status
		if status == statusError { // the guide lists success, failure and timeout: that an error is a failure is a guess
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

// emitFault emits platform.fault, a string, about an invocation that err ended before the runtime was done. The first text is
// the guide's sample; that a timeout is a fault, too, and its text, are guesses.
func (p *invokePhase) emitFault(err error) {
	text := "Process exited before completing request"
	switch {
	case err == nil:
		return
	case resetReason(err) == "timeout":
		text = "Error: " + p.timeoutMessage()
	}
	p.life.hub.logsAPIOnly(p.number, "platform.fault", "RequestId: "+p.id+" "+text)
}
