// Checks CloudFormation templates with cdk-nag's AwsSolutions rules: node nag.cjs TEMPLATE…
//
// The Metadata of a resource must explain each finding about it: cdk_nag.rules_to_suppress, with an id and a reason. An
// explanation without a finding also fails the check. NODE_PATH must lead to cdk-nag and aws-cdk-lib.
const { App, Stack } = require("aws-cdk-lib");
const { CfnInclude } = require("aws-cdk-lib/cloudformation-include");
const { AwsSolutionsChecks } = require("cdk-nag");
const { readFileSync } = require("node:fs");

/** Returns the findings in a template, one a line. */
function check(templateFile) {
  const app = new App();
  new CfnInclude(new Stack(app, "Stack"), "Template", { templateFile });
  const findings = new Map(); // "logical id: rule" → what the rule says
  for (const { ruleName, description, violatingResources } of new AwsSolutionsChecks(app).validateScope(app).violations) {
    for (const { constructPath } of violatingResources) {
      findings.set(`${constructPath.split("/").at(-1)}: ${ruleName}`, description);
    }
  }
  const wrong = [];
  for (const [id, resource] of Object.entries(JSON.parse(readFileSync(templateFile, "utf8")).Resources)) {
    for (const rule of resource.Metadata?.cdk_nag?.rules_to_suppress ?? []) {
      if (!rule.reason) wrong.push(`${id}: ${rule.id} is suppressed without a reason`);
      if (!findings.delete(`${id}: ${rule.id}`)) wrong.push(`${id}: ${rule.id} is suppressed, and not found`);
    }
  }
  for (const [finding, description] of findings) wrong.push(`${finding}: ${description}`);
  return wrong;
}

const templates = process.argv.slice(2);
if (templates.length === 0) {
  console.error("usage: node nag.cjs TEMPLATE…");
  process.exit(2);
}
for (const template of templates) {
  const wrong = check(template);
  for (const line of wrong) console.error(`${template}: ${line}`);
  if (wrong.length > 0) process.exitCode = 1;
  else console.log(`${template}: no finding that is not explained`);
}
