#!/usr/bin/env bash
# runtimes.sh installs Node.js and Python for the consumers, and prints their paths: node PATH, python PATH. It skips a runtime that it
# cannot install, with a line on the standard error. With CI=true that is a failure.
set -euo pipefail
cd "$(dirname "$0")"
. ../install.sh

if install_node >&2; then
	echo "node $node"
else
	cannot "Node.js $NODE" "npm could not install it" >&2
fi
if install_python ../readers/python/requirements.txt >&2; then # only zstd is used
	echo "python $python"
else
	cannot "the backport of Python's zstd" "pip could not install ../readers/python/requirements.txt" >&2
fi
