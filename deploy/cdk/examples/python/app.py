"""A function that ships its telemetry with the layer, policy and stream of the deployed stack TelemetryKinesisExtension."""

from aws_cdk import App, Stack
from aws_cdk.aws_iam import ManagedPolicy
from aws_cdk.aws_lambda import Architecture, Code, Function, LayerVersion, Runtime
from aws_cdk.aws_ssm import StringParameter


def add_telemetry(fn: Function, prefix: str = "/telemetry/kinesis") -> None:
    """Add the extension to a function. The prefix is that of the deployed stack's SSM parameters."""

    def read(name: str) -> str:
        return StringParameter.value_for_string_parameter(fn, f"{prefix}/{name}")

    layer = "extension/arn" if fn.architecture.name == Architecture.ARM_64.name else "extension/x86_64/arn"
    fn.add_layers(LayerVersion.from_layer_version_arn(fn, "TelemetryLayer", read(layer)))
    fn.role.add_managed_policy(ManagedPolicy.from_managed_policy_arn(fn, "TelemetryPolicy", read("runtime/policy/arn")))
    fn.add_environment("KINESIS_TELEMETRY_STREAM", read("stream/name"))


app = App()
function = Function(
    Stack(app, "PythonExample"),
    "Function",
    runtime=Runtime.PYTHON_3_13,
    architecture=Architecture.ARM_64,
    handler="index.handler",
    code=Code.from_inline("def handler(event, context):\n    print('hello')\n"),
)
add_telemetry(function)
app.synth()
