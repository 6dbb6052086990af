#!/usr/bin/env bash
# check.sh DIR: the engines run the SQL of examples/sql. DIR has a folder for each case, named FORMAT-COMPRESSION, with the objects that
# Firehose would write in telemetry/. Each engine writes the rows of each statement to CASE/ENGINE.json. TestConformanceSQL compares them.
#   DuckDB  runs all cases
#   Flink   runs the cases in which each line is an event
#   Athena  needs an AWS account. Trino's parser parses its queries and sqlglot its DDL. DuckDB runs its queries, translated by sqlglot
#
# It installs the engines, pinned, into a cache. It prints SKIPPED for an engine that it cannot install. With CI=true that is a failure.
# It needs Python 3.11 or 3.12, and Java 17 with Maven.
set -euo pipefail
dir=$(realpath "$1")
cd "$(dirname "$0")"
sql=$(realpath ../../examples/sql)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. ../install.sh

step "DuckDB: its own SQL, and Athena's, translated by sqlglot"
if install_python ../readers/python/requirements.txt; then
	for case in "$dir"/*/; do
		run "$python" -B duckdb/run.py "$sql/duckdb" "$case"
		run "$python" -B athena/run.py "$sql/athena" "$case"
	done
	run "$python" -B athena/ddl.py "$sql/athena/table.sql"
else
	cannot "DuckDB and sqlglot" "pip could not install conformance/readers/python/requirements.txt"
fi

java=(java -Xmx1g -XX:+UseSerialGC -Dslf4j.internal.verbosity=ERROR)

step "Trino's parser: Athena's queries"
if install_java athena/pom.xml; then
	run "${java[@]}" -cp "$jars/*" athena/Parse.java "$sql/athena/reports.sql" "$sql/athena/audit.sql"
else
	cannot "Trino's parser" "there is no java or mvn, or Maven could not download conformance/sql/athena/pom.xml"
fi

step "Flink"
if install_java flink/pom.xml; then
	run "${java[@]}" -cp "$jars/*" flink/Flink.java "$sql/flink" "$dir"/{ndjson-none,ndjson-gzip,ndjson-zstd,json-none}
else
	cannot "Flink" "there is no java or mvn, or Maven could not download conformance/sql/flink/pom.xml"
fi

if [ ${#skipped[@]} -gt 0 ]; then
	step "skipped: $(IFS=,; echo "${skipped[*]}")"
fi
