// Package kinesis is a small Kinesis client whose only operation is PutRecords.
//
// The Client encodes the body of a request while it hashes and sends it, and reads the reply into reused memory. From the
// other functions of the SDK's client, the package implements those that matter in a Lambda environment: endpoint rules
// (endpoint.go), signatures (sign.go), credentials (credentials.go, container.go), the retry table (retry.go), the
// correction of clock skew (client.go), and the replacement of connections that died while the environment was frozen
// (transport.go). DESIGN.md has the reasons and the figures. The tests use the SDK's client and signer as oracles.
//
// Limits and wire format: https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html
package kinesis
