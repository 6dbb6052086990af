// Package sandbox runs an AWS Lambda execution environment on this machine, for tests, demos and development.
//
// It does not emulate:
//   - the function's own file system and /tmp: processes see this machine's, except for a hosts file with
//     sandbox.localdomain and layers at /opt, if Linux allows a mount namespace
//   - network isolation, CPU share by memory size, memory limits and out-of-memory kills
//   - the clocks of a frozen virtual machine: a freeze is SIGSTOP, the monotonic clock runs on, sockets stay open
//   - snapshots: SnapStart is init, freeze and restore events in one process
//   - X-Ray segments, IAM, CloudWatch Logs, payload transformations of event sources, images
//
// It starts a function and its external extensions as processes. Each sees only the environment variables that Lambda
// gives it. The sandbox serves them the Runtime API (2018-06-01), the Extensions API (2020-01-01), the Telemetry API
// (2022-07-01), the Logs API (2020-08-15), the metadata endpoint (2026-01-15) and the credentials endpoint of SnapStart.
// [Start] runs the init phase, [Environment.Invoke] an invoke phase and the freeze after it, [Environment.Shutdown] the
// shutdown phase. After a timeout or a crash the environment is reset, and the next Invoke starts new processes with a
// suppressed init. From one init to the next reset or shutdown is a generation. All follows the AWS Lambda Developer
// Guide (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html).
//
// If the guide does not specify a behaviour, Lambda's runtime interface emulator ("the emulator") decides. If the emulator
// does not show it either, a comment in the code says so.
package sandbox
