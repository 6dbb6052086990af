#!/usr/bin/env bash
# check.sh CLIENT COUNT: a client by AWS writes COUNT records "CLIENT 0", "CLIENT 1", … to the stream orders of the Kinesis endpoint
# AWS_ENDPOINT_URL_KINESIS, the first with PutRecord and the others with PutRecords. It reads the stream from its beginning until it has
# all of them. It prints a line "read", and then the data of each record that it read, one per line.
#   boto3   the AWS SDK for Python
#   aws     the AWS CLI
#
# It installs the clients, pinned, into a cache. It prints SKIPPED if it cannot install them. With CI=true that is a failure.
# It needs Python 3.10 or later with venv.
set -euo pipefail
cd "$(dirname "$0")"
. ../install.sh

if ! install_python requirements.txt; then
	cannot "boto3 and the AWS CLI" "pip could not install conformance/kinesis/requirements.txt"
	exit
fi
run "$python" -B clients.py "$1" "$2"
