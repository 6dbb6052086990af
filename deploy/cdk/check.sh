#!/usr/bin/env bash
# Checks deploy/cdk: format, vet, tests, synthesis, cfn-lint and cdk-nag on what it synthesises, and the examples in
# TypeScript and Python. It prints what it runs, and stops at the first failure. Needs: Go, make, Node.js with npm, and
# Python 3 with venv. It installs other tools into a cache, pinned by version. It skips checks whose tools are not available, with a
# line SKIPPED; with CI=true that is a failure. It uses no AWS account.
#
# It leaves the synthesised stack in build/cdk: TelemetryKinesisExtension.template.json, in which aws:asset:path of a layer
# or function is the file or directory beside it with the code.
set -euo pipefail
cd "$(dirname "$0")"

# Settings of this machine must not reach the CDK.
unset "${!AWS_@}" "${!CDK_@}" NODE_PATH

CFN_LINT=1.51.0    # PyPI
CDK_NAG=3.0.2      # npm, with the two below
AWS_CDK_LIB=2.276.0
CONSTRUCTS=10.8.1
# W3005: the CDK writes DependsOn for a function's role, which GetAtt implies already. It does no harm.
LINT_IGNORES=W3005

root=$(cd ../.. && pwd)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/kinesis-telemetry-extension-ci"
out="$root/build/cdk"
mkdir -p "$cache"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
skipped=()

step() { printf '\n=== %s\n' "$*"; }
run() { printf '+ %s\n' "$*"; "$@"; }

# cannot NAME REASON skips the checks that need NAME. With CI=true it fails.
cannot() {
	if [ "${CI:-}" = true ]; then
		echo "$1 is not available: $2. With CI=true no check is skipped." >&2
		exit 1
	fi
	echo "SKIPPED: $1: $2"
	skipped+=("$1")
}

# install DIRECTORY COMMAND… runs a command that fills the directory, once. The directory is the command's last argument.
install() {
	local dir=$1
	shift
	[ -e "$dir/.complete" ] && return
	rm -rf "$dir"
	run "$@" "$dir" && touch "$dir/.complete"
}
npm_install() { npm install --no-audit --no-fund --no-package-lock --loglevel=error "${@:1:$#-1}" --prefix "${*: -1}"; }
pip_install() { python3 -m venv "${*: -1}" && "${*: -1}/bin/pip" install --quiet --disable-pip-version-check "${@:1:$#-1}"; }
npm_example() { mkdir -p "$1" && cp examples/typescript/package.json "$1" && npm_install "$1"; }
digest() { sha256sum "$1" | cut -c 1-12; }

if ! command -v node >/dev/null; then
	cannot "deploy/cdk" "the CDK runs on Node.js, and there is no node on the PATH"
	exit 0
fi

step "modules"
run go mod tidy -diff
run go mod verify

step "format, vet"
echo "+ gofmt -l ."
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { printf 'run gofmt -w on\n%s\n' "$unformatted" >&2; exit 1; }
run go vet ./...

step "tests"
run go test ./...

step "synthesis: as it comes, and with every setting"
run make -C "$root" layer demo-function
rm -rf "$out"
run env CDK_OUTDIR="$out" CDK_CONTEXT_JSON='{"aws:cdk:enable-asset-metadata": true}' go run .
run env CDK_OUTDIR="$work/set" CDK_CONTEXT_JSON='{"stackName": "Set", "streamName": "set", "retentionHours": 8760,
	"retainStream": true, "denyCloudWatchLogs": true, "keyArn": "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"}' go run .
run env CDK_OUTDIR="$work/existing" CDK_CONTEXT_JSON='{"stackName": "Existing", "demo": false,
	"streamArn": "arn:aws:kinesis:eu-west-1:123456789012:stream/existing", "roleArn": "arn:aws:iam::123456789012:role/writer",
	"roleExternalId": "between/us", "roleSessionName": "orders"}' go run .
templates=("$out/TelemetryKinesisExtension.template.json" "$work/set/Set.template.json" "$work/existing/Existing.template.json")
examples=()

step "cdk-nag"
nag="$cache/cdk-nag-$CDK_NAG-$AWS_CDK_LIB"
if install "$nag" npm_install "cdk-nag@$CDK_NAG" "aws-cdk-lib@$AWS_CDK_LIB" "constructs@$CONSTRUCTS"; then
	run env NODE_PATH="$nag/node_modules" node nag.cjs "${templates[@]}"
else
	cannot "cdk-nag" "npm could not install it"
fi

step "the example in TypeScript, and cdk.json with the CDK's command"
typescript="$cache/cdk-typescript-$(digest examples/typescript/package.json)"
if install "$typescript" npm_example; then
	run cp examples/typescript/app.ts "$typescript"
	run env CDK_OUTDIR="$work/typescript" npm run --silent --prefix "$typescript" synth
	examples+=("$work/typescript/TypeScriptExample.template.json")
	run env CDK_DISABLE_CLI_TELEMETRY=true "$typescript/node_modules/.bin/cdk" ls --no-notices --output "$work/cli"
else
	cannot "the example in TypeScript, cdk ls" "npm could not install examples/typescript/package.json"
fi

step "the example in Python"
python="$cache/cdk-python-$(digest examples/python/requirements.txt)"
if install "$python" pip_install -r examples/python/requirements.txt; then
	run env CDK_OUTDIR="$work/python" "$python/bin/python" -B examples/python/app.py
	examples+=("$work/python/PythonExample.template.json")
else
	cannot "the example in Python" "pip could not install examples/python/requirements.txt"
fi
if [ ${#examples[@]} -gt 0 ]; then
	run node examples/check.cjs "${examples[@]}"
fi

step "cfn-lint"
lint="$cache/cfn-lint-$CFN_LINT"
if install "$lint" pip_install "cfn-lint==$CFN_LINT"; then
	run "$lint/bin/cfn-lint" --ignore-checks "$LINT_IGNORES" -- "${templates[@]}" "${examples[@]}"
else
	cannot "cfn-lint" "pip could not install it"
fi

if [ ${#skipped[@]} -gt 0 ]; then
	step "passed, without: $(IFS=,; echo "${skipped[*]}")"
else
	step "all passed"
fi
