// Checks that the arm64 function of an example's template uses the layer, policy and stream from the SSM parameters of the
// deployed stack: node check.cjs TEMPLATE…
const assert = require("node:assert/strict");
const { readFileSync } = require("node:fs");

for (const file of process.argv.slice(2)) {
  const { Parameters, Resources } = JSON.parse(readFileSync(file, "utf8"));
  const functions = Object.values(Resources).filter(({ Type }) => Type === "AWS::Lambda::Function");
  assert.equal(functions.length, 1, `${file}: want one function`);
  const { Layers, Environment, Role } = functions[0].Properties;
  const parameterOf = (value) => Parameters[value.Ref]?.Default;
  assert.deepEqual(Layers.map(parameterOf), ["/telemetry/kinesis/extension/arn"], `${file}: layers`);
  assert.equal(parameterOf(Environment.Variables.KINESIS_TELEMETRY_STREAM), "/telemetry/kinesis/stream/name", `${file}: stream`);
  const policies = Resources[Role["Fn::GetAtt"][0]].Properties.ManagedPolicyArns.map(parameterOf);
  assert.ok(policies.includes("/telemetry/kinesis/runtime/policy/arn"), `${file}: policies of the role`);
  console.log(`${file}: layer, policy and stream`);
}
