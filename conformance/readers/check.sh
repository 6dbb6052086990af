#!/usr/bin/env bash
# check.sh DIR: readers by other authors read the extension's records, and must return every event unchanged. It prints a line for each
# reader and case, and stops at the first difference. DIR has a folder for each case, named FORMAT-COMPRESSION, with
#   records/NNNN.bin  the data of each Kinesis record, in order
#   keys.txt          the records' partition keys, one per line
#   events.ndjson     the expected events, one per line; for the format cloudwatch {"id","timestamp","message"}
# "concatenated" is all records in one object, as Firehose writes them to S3.
#
# It installs the readers, pinned, into a cache. It prints SKIPPED for a reader that it cannot install. With CI=true that is a failure.
# It needs Go, Python 3.11 or 3.12 (pyVRL supports no others), Node.js with npm, and Java 17 with Maven.
set -euo pipefail
dir=$(realpath "$1")
cd "$(dirname "$0")"

ZSTD=zstd # the distribution's package, if the command is not installed
# The other versions: ../install.sh, golang/go.mod, python/requirements.txt, node/package-lock.json, java/pom.xml

. ../install.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# compare READER CASE HOW EXPECTED fails unless the standard input, which the reader wrote, is equal to the file EXPECTED.
compare() {
	local events
	events=$(wc -l <"$dir/$2/events.ndjson")
	if ! cmp - "$4"; then
		echo "FAILED: $2: $1 $3: the bytes differ" >&2
		exit 1
	fi
	printf '%-34s %-16s %-14s %d events of %d, equal\n' "$1" "$2" "$3" "$events" "$events"
}

# unpack READER COMPRESSION COMMAND… decompresses the records of this compression with the command, one by one and concatenated.
unpack() {
	local reader=$1 compression=$2 path case
	shift 2
	for path in "$dir"/{ndjson,json}-"$compression"; do
		case=${path##*/}
		if [ "${case%%-*}" = json ]; then # its events have no line ends
			tr -d '\n' <"$path/events.ndjson" >"$work/expected"
		else
			cp "$path/events.ndjson" "$work/expected"
		fi
		"$@" "$path"/records/*.bin | compare "$reader" "$case" "" "$work/expected"
		cat "$path"/records/*.bin | "$@" | compare "$reader" "$case" "concatenated" "$work/expected"
	done
}

cases=(cloudwatch-gzip json-gzip json-none json-zstd kpl-none ndjson-gzip ndjson-none ndjson-zstd)
diff <(printf '%s\n' "${cases[@]}") <(LC_ALL=C ls "$dir") || {
	echo "FAILED: the cases in the folder are not those of the readers" >&2
	exit 1
}

step "commands: zcat, zstd"
unpack "$(zcat --version | sed -n '1s/(gzip) //p')" gzip zcat --suffix .bin

apt_download() { # unpacks the distribution's package without installing it
	mkdir -p "$1/lists/partial" "$1/archives/partial"
	(
		cd "$1"
		run apt-get -qq -o Dir::State::lists="$PWD/lists" -o Dir::Cache="$PWD" update &&
			run apt-get -qq -o Dir::State::lists="$PWD/lists" -o Dir::Cache="$PWD" download "$ZSTD" &&
			run dpkg-deb -x "$ZSTD"_*.deb . && rm -rf lists archives
	)
}
if zstd=$(command -v zstd) || { install "$cache/readers-zstd" apt_download && zstd="$cache/readers-zstd/usr/bin/zstd"; }; then
	unpack "zstd $("$zstd" --version | grep -o 'v[0-9.]*[0-9]')" zstd "$zstd" -dc
else
	cannot "zstd" "apt-get could not download it"
fi

step "Go: aws-lambda-go, gzip"
if (cd golang && run go mod download); then
	(cd golang && run go mod verify && run go vet . && run go run . "$dir")
else
	cannot "aws-lambda-go" "go could not download it"
fi

step "Python: Powertools for AWS Lambda, Vector's parser, aws-kinesis-agg, gzip, zstd, DuckDB"
if install_python python/requirements.txt; then
	run "$python" -B python/read.py "$dir"
else
	cannot "the readers in Python" "pip could not install python/requirements.txt"
fi

step "Node.js $NODE: Powertools for AWS Lambda (TypeScript), aws-kinesis-agg, zlib, fzstd"
npm_locked() { mkdir -p "$1" && cp node/package.json node/package-lock.json "$1" && npm_install ci "$1"; }
packages="$cache/readers-npm-$(digest node/package.json node/package-lock.json)"
if install_node && install "$packages" npm_locked; then
	run env NODE_PATH="$packages/node_modules" "$node" node/read.cjs "$dir"
else
	cannot "the readers in Node.js" "npm could not install Node.js $NODE and node/package.json"
fi

step "Java: the Kinesis Client Library's deaggregation, GZIPInputStream, zstd-jni, aircompressor"
if install_java java/pom.xml; then
	run java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dslf4j.internal.verbosity=ERROR -cp "$jars/*" java/Read.java "$dir"
else
	cannot "the readers in Java" "there is no java or mvn, or Maven could not download java/pom.xml"
fi

if [ ${#skipped[@]} -gt 0 ]; then
	step "every event is equal; skipped: $(IFS=,; echo "${skipped[*]}")"
else
	step "every event is equal"
fi
