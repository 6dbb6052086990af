package listener

// certainty is how certain it is that a member of a record names Lambda's request: a requestId may also be API Gateway's, or an
// order's. The table of TestLoggers has the lines of common loggers, with the sources.
type certainty uint8

const (
	none   certainty = iota
	text             // a requestId that is no UUID: an emulation's, or not Lambda's
	plain            // a requestId that is a UUID
	nested           // a member of an object that contains a line's context
	sure             // a member whose name can mean nothing else
)

// request is the most certain request id that was found in a record so far.
type request struct {
	id        []byte
	certainty certainty
}

// note reads one member. requestID is the certainty of a member named requestId in this place. named is the certainty of a member
// whose name says that the id is Lambda's.
func (r *request) note(key, value []byte, requestID, named certainty) {
	c := none
	switch string(key) {
	case "requestId":
		c = requestID
	case "aws_request_id", "awsRequestId", "AwsRequestId", "AWSRequestId", "AWSrequestId",
		"function_request_id", "functionRequestId", "FunctionRequestId", "lambda_request_id", "lambdaRequestId",
		"faas.execution", "faas.invocation_id":
		c = named
	}
	if c == none {
		return // nearly all members
	}
	id := stringContent(value)
	if !IsUUID(id) {
		if c != plain || len(id) == 0 {
			return
		}
		c = text
	}
	if c >= r.certainty {
		r.id, r.certainty = id, c
	}
}

// record reads a record and finds its request id and its tenant id. If several members name a request, the most certain one counts,
// and the last of those with the same certainty.
func (s scanner) record(event *Event, i int) (end int, ok bool) {
	event.RequestID, event.TenantID = nil, nil
	if i >= len(s) || s[i] != '{' {
		return s.value(i, 1)
	}
	var r request
	noteMembers := func(object scanner, i int, requestID certainty) (end int, ok bool) {
		return object.members(i, 0, func(key, value []byte) { r.note(key, value, requestID, nested) })
	}
	end, ok = s.members(i, 1, func(key, value []byte) {
		switch string(key) {
		case "tenantId":
			event.TenantID = stringContent(value)
		case "context", "contextMap", "mdc", "correlationIds", "CorrelationIds", "correlation_ids":
			noteMembers(value, 0, none)
		case "lambdaContext", "lambda_context":
			noteMembers(value, 0, nested)
		case "span": // the innermost span, which may be the function's own
			noteMembers(value, 0, plain)
		case "spans": // from the outermost span, which is the runtime's, to the innermost
			for i, ok := 0, value[0] == '['; ok && r.certainty < nested; {
				i, ok = noteMembers(value, scanner(value).space(i+1), nested)
				i = scanner(value).space(i)
			}
		default:
			r.note(key, value, plain, sure)
		}
	})
	event.RequestID = r.id
	return end, ok
}

// IsUUID reports whether an id is a UUID, as Lambda's request ids are.
func IsUUID(id []byte) bool {
	if len(id) != 36 {
		return false
	}
	for i, c := range id {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !isHex(c) {
				return false
			}
		}
	}
	return true
}
