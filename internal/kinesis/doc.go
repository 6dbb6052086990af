// Package kinesis is a lean Kinesis Client: it knows PutRecords and nothing else.
//
// The body of a request is written straight into one reused buffer, the reply is read into reused storage, and the
// requests are signed by the SDK's signer. Of what the SDK's own client does besides, the package owns what matters in
// a Lambda environment: endpoint rules (endpoint.go), the table of what is tried again (retry.go), the correction of
// the clock, and connections that died while the environment was frozen (transport.go). The reasons and the figures are
// in DESIGN.md; in the tests the SDK's client is the oracle.
//
// Limits and wire format: https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html
package kinesis
