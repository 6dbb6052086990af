package listener

// certainty is how surely a member of a record names the request that Lambda serves: a requestId may be API Gateway's, or an
// order's. What common loggers write, and where that can be read, is the table of TestLoggers.
type certainty uint8

const (
	none   certainty = iota
	text             // a requestId that is no UUID: an emulation's, or not Lambda's
	plain            // a requestId
	nested           // a member of an object that holds a line's context
	sure             // a member whose name can mean nothing else
)

// request is what a record says of its request so far.
type request struct {
	id        []byte
	certainty certainty
}

// note looks at one member. requestID is how sure a member of that name is here, named how sure one is that names Lambda.
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
		return // nearly all
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

// record reads a record and notes the members that say which request and which tenant it belongs to. Of several that name a request
// the surest counts, and the last of those that are as sure.
func (s scanner) record(event *Event, i int) (end int, ok bool) {
	event.RequestID, event.TenantID = nil, nil
	if i >= len(s) || s[i] != '{' {
		return s.value(i, 1)
	}
	var r request
	within := func(object scanner, i int, requestID certainty) (end int, ok bool) {
		return object.members(i, 0, func(key, value []byte) { r.note(key, value, requestID, nested) })
	}
	end, ok = s.members(i, 1, func(key, value []byte) {
		switch string(key) {
		case "tenantId":
			event.TenantID = stringContent(value)
		case "context", "contextMap", "mdc", "correlationIds", "CorrelationIds", "correlation_ids":
			within(value, 0, none)
		case "lambdaContext", "lambda_context":
			within(value, 0, nested)
		case "span": // the innermost, which may be the function's own
			within(value, 0, plain)
		case "spans": // from the outermost, which is the runtime's, to the innermost
			for i, ok := 0, value[0] == '['; ok && r.certainty < nested; {
				i, ok = within(value, scanner(value).space(i+1), nested)
				i = scanner(value).space(i)
			}
		default:
			r.note(key, value, plain, sure)
		}
	})
	event.RequestID = r.id
	return end, ok
}

// IsUUID tells whether an id has the form of Lambda's.
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
