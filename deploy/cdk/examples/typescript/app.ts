// A function that ships its telemetry with the layer, policy and stream of the deployed stack TelemetryKinesisExtension.
import { App, Stack } from "aws-cdk-lib";
import { ManagedPolicy } from "aws-cdk-lib/aws-iam";
import { Architecture, Code, Function, LayerVersion, Runtime } from "aws-cdk-lib/aws-lambda";
import { StringParameter } from "aws-cdk-lib/aws-ssm";

/** Adds the extension to a function. The prefix is that of the deployed stack's SSM parameters. */
function addTelemetry(fn: Function, prefix = "/telemetry/kinesis"): void {
  const read = (name: string) => StringParameter.valueForStringParameter(fn, `${prefix}/${name}`);
  const layer = fn.architecture === Architecture.ARM_64 ? "extension/arn" : "extension/x86_64/arn";
  fn.addLayers(LayerVersion.fromLayerVersionArn(fn, "TelemetryLayer", read(layer)));
  fn.role!.addManagedPolicy(ManagedPolicy.fromManagedPolicyArn(fn, "TelemetryPolicy", read("runtime/policy/arn")));
  fn.addEnvironment("KINESIS_TELEMETRY_STREAM", read("stream/name"));
}

const stack = new Stack(new App(), "TypeScriptExample");
const fn = new Function(stack, "Function", {
  runtime: Runtime.NODEJS_22_X,
  architecture: Architecture.ARM_64,
  handler: "index.handler",
  code: Code.fromInline("exports.handler = async () => console.log('hello')"),
});
addTelemetry(fn);
