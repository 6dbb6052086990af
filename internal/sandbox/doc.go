// Package sandbox is an AWS Lambda execution environment on this machine, for tests, demos and development.
//
// What it does not emulate: the function's own file system and /tmp (processes see this machine's, but for a hosts file with
// sandbox.localdomain, where Linux lets them have one), network isolation, CPU share by memory size, memory limits and
// out-of-memory kills, the clocks of a frozen virtual machine (a freeze is SIGSTOP: the monotonic clock runs on, sockets stay
// open), snapshots (SnapStart is init, freeze and restore events in one process), X-Ray segments, IAM, CloudWatch Logs, payload
// transformations of event sources, layers and images.
//
// What it does: it starts a function and its external extensions as processes with the environment variables that each may
// see, and serves them the Runtime API (2018-06-01), the Extensions API (2020-01-01), the Telemetry API (2022-07-01), the
// Logs API (2020-08-15), the metadata endpoint (2026-01-15) and the credentials endpoint of SnapStart. [Start] runs the init
// phase, [Environment.Invoke] an invoke phase and the freeze after it, [Environment.Shutdown] the shutdown phase. After a
// timeout or a crash the environment is reset, and the next Invoke starts the processes anew with a suppressed init, all as
// the AWS Lambda Developer Guide tells (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html).
//
// Where the guide is silent, Lambda's own emulator (the runtime interface emulator) decides; where that is silent too,
// the comment at the place says so.
package sandbox
