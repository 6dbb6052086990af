#!/usr/bin/env bash
# handlers.sh installs Node.js and Python with the packages of the handlers here, and prints their paths: node PATH MODULES, python PATH.
# It skips a runtime that it cannot install, with a line on the standard error. With CI=true that is a failure.
set -euo pipefail
cd "$(dirname "$0")"
. ../install.sh

npm_locked() { mkdir -p "$1" && cp package.json package-lock.json "$1" && npm_install ci "$1"; }
packages="$cache/handlers-npm-$(digest package.json package-lock.json)"
if install_node >&2 && install "$packages" npm_locked >&2; then
	echo "node $node $packages/node_modules"
else
	cannot "Node.js $NODE with pino and Powertools" "npm could not install it" >&2
fi
if install_python ../readers/python/requirements.txt >&2; then # only Powertools is used
	echo "python $python"
else
	cannot "Powertools for Python" "pip could not install ../readers/python/requirements.txt" >&2
fi
