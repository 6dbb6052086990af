#!/usr/bin/env bash
# check.sh CLIENT COUNT: a client of AWS's writes COUNT records "CLIENT 0", "CLIENT 1", … into the stream orders of the Kinesis that
# AWS_ENDPOINT_URL_KINESIS names, some by PutRecord and the rest by PutRecords, and reads the stream from its beginning until it has all of
# them. It prints the data of each record that it read, a line each, behind a line "read".
#   boto3   the AWS SDK for Python
#   aws     the AWS CLI
#
# They are installed, pinned, into a cache. What cannot be had is left out with a line that says SKIPPED; with CI=true that is a failure.
# Needs: Python 3.10 or later with venv.
set -euo pipefail
cd "$(dirname "$0")"
. ../install.sh

if ! install_python requirements.txt; then
	cannot "boto3 and the AWS CLI" "pip could not install conformance/kinesis/requirements.txt"
	exit
fi
run "$python" -B clients.py "$1" "$2"
