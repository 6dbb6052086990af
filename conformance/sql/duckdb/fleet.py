"""fleet.py DIR [EVENTS]: measures examples/sql/duckdb/audit.sql on a fleet of environments.

It writes a thousand events of each environment to DIR/telemetry, as ndjson with gzip, without some events and with copies of others. It
fails unless the audit finds exactly these gaps and duplicates. The default of EVENTS is 20,000,000.
"""

import os
import re
import resource
import sys
import time

import duckdb

MEMORY = "1GB"
EACH = 1000  # events per instance
SQL = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "..", "examples", "sql", "duckdb")

# A gap in each of 19 instances, of 1 to 19 numbers; three of them declared. Five duplicates.
GAPS = 19
FLEET = """
COPY (
  WITH events AS NOT MATERIALIZED (SELECT i // {each} AS life, i % {each} AS n, md5(CAST(i // {each} AS VARCHAR)) AS instance FROM range({events}) t(i)),
       kept AS NOT MATERIALIZED (SELECT * FROM events WHERE NOT (life % {step} = 0 AND life // {step} BETWEEN 1 AND {gaps} AND n BETWEEN 500 AND 499 + life // {step})),
       doubled AS NOT MATERIALIZED (SELECT * FROM kept UNION ALL SELECT * FROM kept WHERE life = 7 AND n < 5)
  SELECT strftime(TIMESTAMP '2026-11-24' + INTERVAL 1 MILLISECOND * (life + n * 50), '%Y-%m-%dT%H:%M:%S.%gZ') AS time,
         CASE WHEN n = {each} - 1 AND life % {step} = 0 AND life // {step} BETWEEN 1 AND 3 THEN 'kinesis-telemetry.dropped'
              WHEN n = {each} - 1 THEN 'kinesis-telemetry.stats' WHEN n % 10 = 9 THEN 'platform.report' ELSE 'function' END AS type,
         CASE WHEN n = {each} - 1 AND life % {step} = 0 AND life // {step} BETWEEN 1 AND 3
              THEN json_object('reason', 'buffer_full', 'count', life // {step}, 'firstSeq', 500, 'lastSeq', 499 + life // {step}, 'instance', instance)
              ELSE to_json('line ' || n || ' of the order ' || hash(life * {each} + n) || ' of customer ' || hash(n)) END AS record,
         instance || '-' || n // 10 AS "requestId", n AS seq,
         {{'function': 'checkout', 'version': '7', 'account': '123456789012', 'region': 'eu-west-1', 'instance': instance}} AS source
  FROM doubled
) TO 'telemetry' (FORMAT json, COMPRESSION gzip, PER_THREAD_OUTPUT true, FILE_EXTENSION 'json.gz')
"""


def main(directory, events):
    os.makedirs(directory, exist_ok=True)
    os.chdir(directory)
    db = duckdb.connect("fleet.duckdb", config={"threads": 2, "memory_limit": MEMORY, "temp_directory": "spill", "preserve_insertion_order": False})
    if not os.path.exists("telemetry"):
        db.execute(FLEET.format(each=EACH, events=events, step=events // EACH // (GAPS + 1), gaps=GAPS))
    with open(os.path.join(SQL, "table.sql"), encoding="utf-8") as file:
        table = file.read()
    assert "CREATE OR REPLACE VIEW" in table
    began = time.monotonic()
    db.execute(table.replace("CREATE OR REPLACE VIEW", "CREATE OR REPLACE TABLE"))  # reads the objects once for four statements
    print("%-10s %21.1f s" % ("read", time.monotonic() - began), flush=True)
    with open(os.path.join(SQL, "audit.sql"), encoding="utf-8") as file:
        text = file.read()
    found = {}
    for name, statement in zip(re.findall(r"^-- (\w+): ", text, re.M), (s for s in duckdb.extract_statements(text) if s.query.strip())):
        began = time.monotonic()
        found[name] = db.execute(statement).fetchall()
        print("%-10s %7d rows %8.1f s" % (name, len(found[name]), time.monotonic() - began), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = sum(os.path.getsize(os.path.join("telemetry", f)) for f in os.listdir("telemetry"))
    print("%d events, %d MB of gzip; memory_limit %s, peak of the process %.0f MB, %d cores" % (events, size // 10**6, MEMORY, peak, os.cpu_count()))
    assert sorted(row[3] for row in found["missing"]) == list(range(1, GAPS + 1)), found["missing"]
    assert sorted(row[3] for row in found["missing"] if row[4] == "buffer_full") == [1, 2, 3], found["missing"]
    assert [row[1:] for row in found["duplicates"]] == [(n, 2) for n in range(5)], found["duplicates"]
    assert len(found["dropped"]) == 3 and len(found["instances"]) == events // EACH, len(found["instances"])
    assert sum(row[7] for row in found["instances"]) == sum(range(4, GAPS + 1)), "lost"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20_000_000)
