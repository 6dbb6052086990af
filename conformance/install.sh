# shellcheck shell=bash
# Installs the programs of other languages that checks need, pinned, into a cache. Scripts source it. A script that installs with Maven
# must set $work to a folder, and remove that folder at its end.

NODE=22.23.3 # npm; the first version with zstd is 22.15
MAVEN_DEPENDENCY_PLUGIN=3.8.1

cache="${XDG_CACHE_HOME:-$HOME/.cache}/kinesis-telemetry-extension-ci"
mkdir -p "$cache"
skipped=()
case $(uname -m) in aarch64 | arm64) architecture=arm64 ;; *) architecture=x64 ;; esac

step() { printf '\n=== %s\n' "$*"; }
run() { printf '+ %s\n' "$*"; timeout 300 "$@"; }

# cannot NAME REASON skips the part of a check that needs NAME. With CI=true it fails.
cannot() {
	if [ "${CI:-}" = true ]; then
		echo "FAILED: $1 cannot be installed: $2. With CI=true no part is skipped." >&2
		exit 1
	fi
	echo "SKIPPED: $1: $2"
	skipped+=("$1")
}

# install DIRECTORY COMMAND… runs the command with the directory as its last argument. The command fills the directory. install does not
# run it again after a success. Another script that installs the same waits, if the system has flock: .ci/run tests packages in parallel.
install() {
	local to=$1
	shift
	[ ! -e "$to/.complete" ] || return 0
	(
		! command -v flock >/dev/null || flock -w 900 9
		[ ! -e "$to/.complete" ] || exit 0
		rm -rf "$to"
		echo "+ $* $to"
		"$@" "$to" 9>&- && touch "$to/.complete"
	) 9>"$to.lock"
}
digest() { cat "$@" | sha256sum | cut -c 1-12; }

# npm_install COMMAND ARGUMENT… DIRECTORY runs a command of npm, such as ci, in the directory.
npm_install() { run npm "$1" --ignore-scripts --no-audit --no-fund --loglevel=error "${@:2:$#-2}" --prefix "${*: -1}"; }

# install_node sets node to the path of the installed Node.js.
install_node() {
	local to="$cache/readers-node-$NODE-$architecture"
	node="$to/node_modules/node-linux-$architecture/bin/node"
	command -v npm >/dev/null && install "$to" npm_install install --no-save "node-linux-$architecture@$NODE"
}

# install_python REQUIREMENTS sets python to the path of a Python with the packages of the file, and no others.
install_python() {
	local to
	to="$cache/readers-python-$(digest "$1")"
	python="$to/bin/python"
	install "$to" pip_install "$1"
}
pip_install() { run python3 -m venv "$2" && run "$2/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: -r "$1"; }

# install_java POM sets jars to a folder with the dependencies of the file.
install_java() {
	jars="$cache/readers-java-$(digest "$1")"
	command -v java >/dev/null && command -v mvn >/dev/null && install "$jars" maven_copy "$1"
}
maven_copy() {
	MAVEN_OPTS="-Xmx512m ${MAVEN_OPTS:-}" run mvn --quiet --batch-mode -Dstyle.color=never --no-transfer-progress --strict-checksums -f "$1" \
		-Dmaven.repo.local="$work/maven" -DoutputDirectory="$2" \
		"org.apache.maven.plugins:maven-dependency-plugin:$MAVEN_DEPENDENCY_PLUGIN:copy-dependencies"
}
