"""run.py SQL CASE: runs the statements in the folder SQL on the objects in the folder CASE.

It writes the rows of each statement to CASE/duckdb.json, by the statement's name: the first word of the comment before it. DuckDB itself
splits the files into statements.
"""

import datetime
import json
import os
import re
import sys

import duckdb


def value(v):
    if isinstance(v, datetime.datetime):
        return v.timestamp() * 1000
    return v if v is None or isinstance(v, (bool, str)) else float(v)


def main(sql, case):
    os.chdir(case)  # the statements name telemetry/
    db = duckdb.connect(config={"threads": 2, "memory_limit": "1GB"})
    table = open(os.path.join(sql, "table.sql"), encoding="utf-8").read()
    if os.path.basename(case) in ("json-gzip", "json-zstd"):
        assert "format = 'newline_delimited'" in table and "format = 'unstructured' reads them" in table
        table = table.replace("format = 'newline_delimited'", "format = 'unstructured'")
    db.execute(table)
    rows = {}
    for name in ("reports.sql", "audit.sql"):
        text = open(os.path.join(sql, name), encoding="utf-8").read()
        statements = [s for s in duckdb.extract_statements(text) if s.query.strip()]
        names = re.findall(r"^-- (\w+): ", text, re.M)
        assert len(statements) == len(names), (len(statements), names)
        for heading, statement in zip(names, statements):
            rows[heading] = [[value(v) for v in row] for row in db.execute(statement).fetchall()]
    with open("duckdb.json", "w", encoding="utf-8") as file:
        json.dump(rows, file)


if __name__ == "__main__":
    main(*map(os.path.realpath, sys.argv[1:3]))
