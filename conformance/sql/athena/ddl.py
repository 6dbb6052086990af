"""ddl.py FILE: checks that Athena's DDL parses, and that its columns, SerDe and partition projection fit the events of FORMAT.md."""

import sys

import sqlglot
from sqlglot import exp

COLUMNS = {
    "time": "TEXT", "type": "TEXT", "record": "TEXT", "requestid": "TEXT", "seq": "BIGINT",
    "source": "STRUCT<function TEXT, version TEXT, account TEXT, region TEXT, instance TEXT, tags MAP<TEXT, TEXT>>",
}
PROPERTIES = {
    "projection.enabled": "true", "projection.dt.type": "date", "projection.dt.format": "yyyy/MM/dd",
    "projection.dt.range": "2026/01/01,NOW", "storage.location.template": "s3://BUCKET/telemetry/${dt}",
}


def main(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert "\nPARTITIONED BY (dt string)\n" in text, "PARTITIONED BY, which sqlglot does not check"
    statements = sqlglot.parse(text, read="athena", error_level=sqlglot.ErrorLevel.RAISE)
    create, = [s for s in statements if s is not None]
    assert isinstance(create, exp.Create), repr(create)
    columns = {c.name: c.args["kind"].sql().replace('"', "") for c in create.this.expressions}
    assert columns == COLUMNS, columns
    serde, = create.find_all(exp.RowFormatSerdeProperty)
    assert serde.this.name == "org.openx.data.jsonserde.JsonSerDe", serde
    location, = create.find_all(exp.LocationProperty)
    assert location.this.name == "s3://BUCKET/telemetry/", location
    properties = {p.this.name: p.args["value"].name for p in create.find_all(exp.Property) if p.__class__ is exp.Property}
    assert properties == PROPERTIES, properties
    print("examples/sql/athena/table.sql: parsed; columns, SerDe, location and projection are correct")


if __name__ == "__main__":
    main(sys.argv[1])
