#!/usr/bin/env bash
# runtimes.sh installs what the consumers in Node.js and Python run on, and prints where it is: node PATH, python PATH. What cannot be had
# is left out, with a line on the standard error; with CI=true that is a failure.
set -euo pipefail
cd "$(dirname "$0")"
. ../install.sh

if install_node >&2; then
	echo "node $node"
else
	cannot "Node.js $NODE" "npm could not install it" >&2
fi
if install_python ../readers/python/requirements.txt >&2; then # of them zstd alone is used
	echo "python $python"
else
	cannot "the backport of Python's zstd" "pip could not install ../readers/python/requirements.txt" >&2
fi
