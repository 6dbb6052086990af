//go:build release && unix

package main

import "embed"

// embedded has the extension and the demo's function, built for the system and architecture of this ktel. The Makefile passes both
// files to the build as an overlay. A checkout does not have them.
//
//go:embed programs/kinesis-telemetry-extension programs/hello
var embedded embed.FS
