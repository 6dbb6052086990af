package doctor

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"kinesis-telemetry-extension/internal/awsapi"
	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/flush"
)

// function is the configuration of a deployed function.
type function struct {
	*awsapi.Function
	account   string
	arch      string
	vpc       string // its id; empty if the function is in none
	variables map[string]string
}

// checkFunction reads the function's configuration from Lambda and runs the checks that need nothing else.
// It returns false if the configuration or its variables cannot be read.
func (e *examiner) checkFunction(ctx context.Context) bool {
	answer, err := awsapi.GetFunction(ctx, e.aws, e.options.Function, e.options.Qualifier)
	switch {
	case awsapi.ErrorCode(err) == awsapi.ResourceNotFound:
		e.add(functionCheck, Problem, fmt.Sprintf("there is no function %s in %s: %s", e.functionName(), e.aws.Region, Reason(err)),
			fmt.Sprintf("aws lambda list-functions --region %s --query 'Functions[].FunctionName'; or give --region", e.aws.Region))
		return false
	case badCredentials(err):
		e.add(functionCheck, Problem, "the credentials are not accepted: "+Reason(err), "renew them, or correct the clock of this machine")
		return false
	case err != nil:
		fix := fmt.Sprintf("let this machine reach Lambda; is there a region %s?", e.aws.Region)
		if denied(err) {
			fix = "these credentials need " + statement("lambda:GetFunctionConfiguration", "*")
		}
		e.add(functionCheck, NotChecked, "Lambda did not describe it: "+Reason(err), fix)
		e.report.Err = fmt.Errorf("cannot read the configuration of function %s: %s", e.functionName(), Reason(err))
		return false
	}
	e.function = newFunction(answer)
	e.report.Function = answer.FunctionArn
	e.checkState()
	e.checkLayer(ctx)
	e.checkKind()
	return e.readVariables()
}

func (e *examiner) functionName() string {
	if e.options.Qualifier != "" {
		return e.options.Function + ":" + e.options.Qualifier
	}
	return e.options.Function
}

func newFunction(o *awsapi.Function) *function {
	f := &function{Function: o, arch: awsapi.ArchitectureX8664, variables: o.Environment.Variables}
	if part := strings.Split(o.FunctionArn, ":"); len(part) > 4 {
		f.account = part[4]
	}
	if len(o.Architectures) > 0 {
		f.arch = o.Architectures[0]
	}
	if len(o.VpcConfig.SubnetIds) > 0 {
		f.vpc = cmp.Or(o.VpcConfig.VpcId, "its own")
	}
	return f
}

func (e *examiner) checkState() {
	f := e.function
	kind := f.Runtime
	if f.PackageType == awsapi.PackageImage {
		kind = "container image"
	}
	seen := fmt.Sprintf("%s: %s, %s, %d MB, %d s", f.FunctionArn, kind, f.arch, f.MemorySize, f.Timeout)
	switch f.State {
	case awsapi.StateFailed:
		e.add(functionCheck, Problem, seen+"; its state is Failed: "+f.StateReason, "fix this first: the function does not run")
	case awsapi.StatePending:
		e.add(functionCheck, Warning, seen+"; it is still being created",
			fmt.Sprintf("aws lambda wait function-active-v2 --region %s --function-name %s", e.aws.Region, f.FunctionName))
	default:
		e.ok(functionCheck, "%s", seen)
	}
}

// readVariables collects the environment that Lambda gives the extension. It returns false if Lambda does not show it.
func (e *examiner) readVariables() bool {
	f := e.function
	if f.Environment.Error != nil {
		e.add(settingsCheck, NotChecked, "Lambda does not show the function's variables: "+f.Environment.Error.Message,
			"these credentials need "+statement("kms:Decrypt", orElse(f.KMSKeyArn, "ARN-OF-THE-KEY")))
		e.report.Err = fmt.Errorf("cannot read the settings of function %s", e.functionName())
		return false
	}
	e.checkGo()
	for name, value := range f.variables {
		if name == "AWS_CA_BUNDLE" { // the file is in the function's environment, not on this machine
			e.add(settingsCheck, NotChecked, name+" names a file of the function, which cannot be checked from here",
				"make sure that the function's package or one of its layers contains it: without it nothing is delivered")
			continue
		}
		e.environ = append(e.environ, name+"="+value)
	}
	region := e.aws.Region
	if part := strings.Split(f.FunctionArn, ":"); len(part) > 3 {
		region = part[3]
	}
	e.environ = append(e.environ, "AWS_REGION="+region, "AWS_ACCESS_KEY_ID=given-by-Lambda",
		fmt.Sprint("AWS_LAMBDA_FUNCTION_MEMORY_SIZE=", f.MemorySize))
	settings, _ := config.Load(e.environ) // checkSettings reports the mistakes
	e.checkMemory(&settings)
	e.checkTimeout(&settings)
	return true
}

func (e *examiner) checkMemory(c *config.Config) {
	memory := int64(e.function.MemorySize) << 20
	need := c.MemoryLimit()
	if need > memory/2 {
		e.add(memoryCheck, Warning, fmt.Sprintf("the extension may take %d of the function's %d MB", need>>20, memory>>20),
			"lower "+config.Prefix+"BUFFER_BYTES or "+config.Prefix+"MAX_RECORD_BYTES, or give the function more memory")
		return
	}
	e.ok(memoryCheck, "%d MB; the extension buffers up to %d MiB and keeps to %d MiB in all", memory>>20, c.BufferBytes>>20, need>>20)
}

func (e *examiner) checkTimeout(c *config.Config) {
	timeout := e.function.Timeout
	if c.Delivery != flush.Deferred && c.FlushTimeout.Seconds() >= float64(timeout) {
		e.add(timeoutCheck, Warning, fmt.Sprintf("an invocation may take %d s, and shipping may take %s of it", timeout, c.FlushTimeout),
			fmt.Sprintf("raise the function's timeout, or lower %sFLUSH_TIMEOUT: both share the invocation's time", config.Prefix))
		return
	}
	e.ok(timeoutCheck, "%d s, of which shipping may take %s", timeout, c.FlushTimeout)
}

// checkNetwork reports which route the function needs: it depends on where the stream is.
func (e *examiner) checkNetwork() {
	f := e.function
	if f.vpc == "" {
		e.ok(networkCheck, "in no VPC")
		return
	}
	var fix string
	switch {
	case e.stream.url == nil:
		fix = fixFirst
	case e.inOtherRegion():
		fix = "it needs " + e.route()
	default:
		fix = fmt.Sprintf("it needs a NAT gateway, or an interface endpoint that this lists: "+
			"aws ec2 describe-vpc-endpoints --region %s --filters Name=vpc-id,Values=%s Name=service-name,Values=%s",
			e.stream.Region, f.vpc, e.stream.endpointService())
	}
	e.add(networkCheck, NotChecked, "in VPC "+f.vpc+", whose routes cannot be checked from here", fix)
}

// checkKind reports the peculiarities of SnapStart and Managed Instances, and the log format.
func (e *examiner) checkKind() {
	f := e.function
	if f.SnapStart.ApplyOn == awsapi.SnapStartPublishedVersions {
		e.ok(snapStartCheck, "published versions are restored from a snapshot; seq starts again at 0 in each restored environment")
	}
	if f.CapacityProviderConfig != nil {
		e.ok(instancesCheck, "Managed Instances: never frozen; log lines without a request id of their own get none")
	}
	format := "Text"
	levels := ""
	if l := f.LoggingConfig; l.LogFormat == awsapi.LogFormatJSON {
		format, levels = "JSON", fmt.Sprintf(", levels from %s (application) and %s (system)", l.ApplicationLogLevel, l.SystemLogLevel)
	}
	e.ok(loggingCheck, "%s%s", format, levels)
}
