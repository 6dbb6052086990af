"""Checks the CloudFormation and the SAM template for the resources that functions rely on. Run by deploy/check.sh, with cfn-lint's Python."""

import os
import sys
from pathlib import Path

from cfnlint.decode import decode
from samtranslator.translator.transform import transform

STREAM = "arn:aws:kinesis:eu-west-1:123456789012:stream/mine"
ROLE = "arn:aws:iam::210987654321:role/telemetry/writer"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
DENY = {"Effect": "Deny", "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], "Resource": "*"}
GIVEN = {"LayerBucket": "zips", "LayerKeyArm64": "arm64.zip", "LayerKeyX8664": "x86_64.zip"}
PREFIX = "/telemetry/kinesis"
NAMES = ["extension/arn", "extension/x86_64/arn", "runtime/policy/arn", "stream/name"]


def load(path):
    template, problems = decode(str(path))
    assert template, problems
    return template


def deployed(template, parameters):
    """The resources as CloudFormation would make them: conditions and parameters resolved, Ref of a resource left as Ref."""
    values = {name: p.get("Default") for name, p in template["Parameters"].items()} | parameters
    missing = [name for name, value in values.items() if value is None]
    assert not missing, f"parameters without a value: {missing}"
    drop = object()

    def resolve(node):
        if isinstance(node, list):
            return [item for item in map(resolve, node) if item is not drop]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (function, argument), = node.items()
            if function == "Ref":
                return drop if argument == "AWS::NoValue" else values.get(argument, {"Ref": argument})
            if function == "Fn::If":
                return resolve(argument[1 if conditions(argument[0]) else 2])
            if function == "Fn::Equals":
                return resolve(argument[0]) == resolve(argument[1])
            if function == "Fn::Not":
                return not resolve(argument[0])
            if function == "Fn::Sub":
                for name, value in values.items():
                    argument = argument.replace("${%s}" % name, str(value))
                assert "${" not in argument, argument
                return argument
            if function == "Fn::GetAtt":
                return {"GetAtt": argument if isinstance(argument, str) else ".".join(argument)}
        return {key: value for key, item in node.items() if (value := resolve(item)) is not drop}

    def conditions(name):
        return resolve(template["Conditions"][name])

    made = {
        name: resolve({key: value for key, value in resource.items() if key != "Condition"})
        for name, resource in template["Resources"].items()
        if "Condition" not in resource or conditions(resource["Condition"])
    }
    return made, {name: resolve(output["Value"]) for name, output in template["Outputs"].items()}


def equal(what, got, want):
    assert got == want, f"{what}:\n   is      {got}\n   must be {want}"


def of_type(resources, kind):
    return {name: r["Properties"] for name, r in resources.items() if r["Type"] == kind}


def check_cloudformation(template):
    for stream in ("", STREAM):
        for key, role, deny in (("", "", ""), (KEY, "", "false"), ("", ROLE, ""), (KEY, ROLE, ""), ("", "", "true"), (KEY, "", "true"), ("", ROLE, "true")):
            given = GIVEN | {"ExistingStreamArn": stream, "StreamKeyArn": key, "RoleArn": role} | ({"DenyCloudWatchLogs": deny} if deny else {})
            resources, outputs = deployed(template, given)
            case = f"existing stream {stream or 'none'}, key {key or 'of AWS'}, role {role or 'none'}, CloudWatch Logs denied {deny or 'by default'}"
            arn, name = stream or {"GetAtt": "Stream.Arn"}, stream or {"Ref": "Stream"}

            kinds = sorted(r["Type"] for r in resources.values())
            equal(f"{case}: resources", kinds, sorted(
                ["AWS::IAM::ManagedPolicy"] + ["AWS::Lambda::LayerVersion"] * 2 + ["AWS::SSM::Parameter"] * 4
                + ([] if stream else ["AWS::Kinesis::Stream"])))

            grants = [{"Effect": "Allow", "Action": "kinesis:PutRecords", "Resource": arn}]
            if key:
                grants.append({"Effect": "Allow", "Action": "kms:GenerateDataKey", "Resource": key})
            if role:
                grants = [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role}]
            if deny == "true":
                grants.append(DENY)
            policy = of_type(resources, "AWS::IAM::ManagedPolicy")["RuntimePolicy"]
            equal(f"{case}: policy", policy["PolicyDocument"], {"Version": "2012-10-17", "Statement": grants})

            layers = {tuple(p["CompatibleArchitectures"]): p["Content"]
                      for p in of_type(resources, "AWS::Lambda::LayerVersion").values()}
            equal(f"{case}: layers", layers, {
                ("arm64",): {"S3Bucket": "zips", "S3Key": "arm64.zip"},
                ("x86_64",): {"S3Bucket": "zips", "S3Key": "x86_64.zip"}})
            by_architecture = {p["CompatibleArchitectures"][0]: {"Ref": n}
                               for n, p in of_type(resources, "AWS::Lambda::LayerVersion").items()}

            values = [by_architecture["arm64"], by_architecture["x86_64"], {"Ref": "RuntimePolicy"}, name]
            parameters = {p["Name"]: p["Value"] for p in of_type(resources, "AWS::SSM::Parameter").values()}
            equal(f"{case}: SSM parameters", parameters, {f"{PREFIX}/{n}": value for n, value in zip(NAMES, values)})
            equal(f"{case}: outputs", outputs, dict(zip(
                ["LayerArm64Arn", "LayerX8664Arn", "RuntimePolicyArn", "StreamName"], values)) | {"StreamArn": arn})

            if not stream:
                equal(f"{case}: stream", of_type(resources, "AWS::Kinesis::Stream")["Stream"], {
                    "StreamModeDetails": {"StreamMode": "ON_DEMAND"},
                    "RetentionPeriodHours": 24,
                    "StreamEncryption": {"EncryptionType": "KMS", "KeyId": key or "alias/aws/kinesis"}})

    resources, _ = deployed(template, GIVEN | {"ParameterPrefix": "/mine"})
    names = sorted(p["Name"] for p in of_type(resources, "AWS::SSM::Parameter").values())
    equal("SSM parameters under another prefix", names, [f"/mine/{n}" for n in NAMES])


class NoManagedPolicies:
    """The SAM transform asks AWS for the names of its own managed policies; the template uses none of them."""

    @staticmethod
    def load():
        return {}


def check_sam(template):
    defaults = {name: p["Default"] for name, p in template["Parameters"].items()}
    equal("SAM: SSM parameters", defaults, {
        "ExtensionArn": f"{PREFIX}/extension/arn", "RuntimePolicyArn": f"{PREFIX}/runtime/policy/arn",
        "StreamName": f"{PREFIX}/stream/name", "RoleArn": "", "RoleExternalId": "", "RoleSessionName": "",
        "DenyCloudWatchLogs": "false"})
    conditions = dict(template["Conditions"])
    resources = transform(template, {}, NoManagedPolicies)["Resources"]
    function, = of_type(resources, "AWS::Lambda::Function").values()
    equal("SAM: architecture", function["Architectures"], ["arm64"])
    equal("SAM: layers", function["Layers"], [{"Ref": "ExtensionArn"}])
    equal("SAM: environment", function["Environment"], {"Variables": {
        "KINESIS_TELEMETRY_STREAM": {"Ref": "StreamName"}, "KINESIS_TELEMETRY_ROLE_ARN": {"Ref": "RoleArn"},
        "KINESIS_TELEMETRY_ROLE_EXTERNAL_ID": {"Ref": "RoleExternalId"}, "KINESIS_TELEMETRY_ROLE_SESSION_NAME": {"Ref": "RoleSessionName"}}})
    role, = of_type(resources, "AWS::IAM::Role").values()
    policies = role["ManagedPolicyArns"]
    assert {"Ref": "RuntimePolicyArn"} in policies and len(policies) == 2, policies  # and the basic execution role
    equal("SAM: when CloudWatch Logs is denied", conditions, {"DeniesCloudWatchLogs": {"Fn::Equals": [{"Ref": "DenyCloudWatchLogs"}, "true"]}})
    inline, = role["Policies"]
    (condition, yes, no), = inline.values()
    equal("SAM: CloudWatch Logs", (condition, yes["PolicyDocument"]["Statement"], no), ("DeniesCloudWatchLogs", [DENY], {"Ref": "AWS::NoValue"}))


if __name__ == "__main__":
    os.environ["AWS_DEFAULT_REGION"] = "eu-west-1"  # the transform needs one, and makes no call
    deploy = Path(__file__).resolve().parent.parent
    try:
        check_cloudformation(load(deploy / "cloudformation" / "template.yaml"))
        check_sam(load(deploy / "sam" / "template.yaml"))
    except AssertionError as failure:
        sys.exit(f"check.py: {failure}")
    print("policy, layers, SSM parameters, outputs and stream are correct; the SAM function uses them")
