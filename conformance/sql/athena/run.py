"""run.py SQL CASE: runs Athena's queries in the folder SQL on the objects in the folder CASE.

It writes the rows of each query to CASE/athena.json, by the query's name. Athena itself needs an AWS account, so sqlglot translates its
SQL to DuckDB's, and DuckDB runs it. This checks names, joins and sums, but not Athena's functions.
"""

import json
import os
import re
import sys

import duckdb
import sqlglot
from sqlglot import exp

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "duckdb"))
from run import value  # noqa: E402

# The columns of table.sql as the OpenX SerDe reads them: a string as its text, an object as its JSON.
TABLE = """
CREATE VIEW telemetry AS
SELECT time, type, record->>'$' AS record, "requestId" AS requestid, seq, source, '2026/11/24' AS dt, last_modified AS "$file_modified_time"
FROM read_json('telemetry/**/*.json*', filename = true, format = 'unstructured', columns = {
  time: 'VARCHAR', type: 'VARCHAR', record: 'JSON', "requestId": 'VARCHAR', seq: 'BIGINT',
  source: 'STRUCT("function" VARCHAR, version VARCHAR, account VARCHAR, region VARCHAR, instance VARCHAR, tags MAP(VARCHAR, VARCHAR))'
}) JOIN (SELECT filename, last_modified FROM read_blob('telemetry/**/*.json*')) USING (filename)
"""


def to_duckdb(node):
    if isinstance(node, (exp.JSONExtractScalar, exp.JSONExtract)):
        return exp.func("try", node)  # NULL for text that is not JSON, as in Athena
    if isinstance(node, exp.ApproxQuantile):
        return exp.Quantile(this=node.this, quantile=node.args["quantile"])
    return node


def main(sql, case):
    os.chdir(case)
    db = duckdb.connect(config={"threads": 2, "memory_limit": "1GB"})
    db.execute(TABLE)
    rows = {}
    for name in ("reports.sql", "audit.sql"):
        with open(os.path.join(sql, name), encoding="utf-8") as file:
            text = file.read()
        names = re.findall(r"^-- (\w+): ", text, re.M)
        statements = sqlglot.parse(text, read="athena", error_level=sqlglot.ErrorLevel.RAISE)
        statements = [s for s in statements if s is not None and not isinstance(s, exp.Semicolon)]
        assert len(statements) == len(names), (len(statements), names)
        for heading, statement in zip(names, statements):
            text = statement.transform(to_duckdb).sql("duckdb")
            try:
                rows[heading] = [[value(v) for v in row] for row in db.execute(text).fetchall()]
            except duckdb.Error as error:
                sys.exit("FAILED: %s: %s: %s\n%s" % (name, heading, error, text))
    with open("athena.json", "w", encoding="utf-8") as file:
        json.dump(rows, file)


if __name__ == "__main__":
    main(*map(os.path.realpath, sys.argv[1:3]))
