"""Reads every case with Python: Powertools for AWS Lambda, Vector's parser (pyVRL), aws-kinesis-agg, gzip, zstd, DuckDB.

Not tested:
- zlib.decompress(data, zlib.MAX_WBITS | 32), which Powertools uses, reads only the first of several concatenated gzip members, without an
  error.
- zstandard's decompress() reads only the first of several concatenated frames, without an error.
- DuckDB fails on a file with half a surrogate pair ("\\ud83d", which is valid JSON, and which JSON.stringify of Node.js writes for text
  that was cut there). With ignore_errors that event is NULL. So no event here has one.
- Powertools fails on ndjson with gzip if it reads it as the format cloudwatch.
"""

import base64
import gzip
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import zlib
from datetime import datetime, timedelta, timezone

import duckdb
import pyvrl
import zstandard
from aws_kinesis_agg.deaggregator import deaggregate_records
from aws_lambda_powertools.utilities.data_classes import kinesis_stream_event
from aws_lambda_powertools.utilities.parser.models import kinesis as kinesis_model
from aws_lambda_powertools.utilities.parser.models import KinesisDataStreamModel

if sys.version_info >= (3, 14):
    from compression import zstd

    ZSTD = "Python %s compression.zstd" % platform.python_version()
else:
    from backports import zstd

    ZSTD = "Python backports.zstd " + importlib.metadata.version("backports.zstd")
GZIP = "Python %s gzip" % platform.python_version()
ZSTANDARD = "PyPI zstandard " + zstandard.__version__
DUCKDB = "DuckDB " + duckdb.__version__
POWERTOOLS = "Powertools Python " + importlib.metadata.version("aws-lambda-powertools")
AGGREGATION = "PyPI aws-kinesis-agg " + importlib.metadata.version("aws-kinesis-agg")
VECTOR = "Vector's parser, pyVRL " + importlib.metadata.version("pyVRL")


class Case:
    """The data of each Kinesis record, its partition key, and the expected events."""

    def __init__(self, path):
        self.name = os.path.basename(path)
        self.format, self.compression = self.name.split("-")
        self.records = []
        for name in sorted(os.listdir(os.path.join(path, "records"))):
            with open(os.path.join(path, "records", name), "rb") as file:
                self.records.append(file.read())
        with open(os.path.join(path, "keys.txt"), encoding="ascii") as file:
            self.keys = file.read().split()
        with open(os.path.join(path, "events.ndjson"), "rb") as file:
            self.lines = file.read().removesuffix(b"\n").split(b"\n")
        assert len(self.records) == len(self.keys), "a partition key for each record"

    def lambda_event(self):
        """Returns the records as an event source mapping passes them to a function."""
        arn = "arn:aws:kinesis:us-east-1:123456789012:stream/telemetry-kinesis-stream"
        return {
            "Records": [
                {
                    "kinesis": {
                        "kinesisSchemaVersion": "1.0",
                        "partitionKey": key,
                        "sequenceNumber": str(number),
                        "data": base64.b64encode(data).decode(),
                        "approximateArrivalTimestamp": 1700000000.125,
                    },
                    "eventSource": "aws:kinesis",
                    "eventVersion": "1.0",
                    "eventID": "shardId-000000000000:%d" % number,
                    "eventName": "aws:kinesis:record",
                    "invokeIdentityArn": "arn:aws:iam::123456789012:role/consumer",
                    "awsRegion": "us-east-1",
                    "eventSourceARN": arn,
                }
                for number, (data, key) in enumerate(zip(self.records, self.keys), 1)
            ]
        }

    def log_events(self):
        return [(e["id"], e["timestamp"], e["message"]) for e in map(json.loads, self.lines)]

    def join(self, each):
        """Joins the decompressed data of the records, with a line end behind each event of the format json."""
        return b"".join(data + b"\n" for data in each) if self.format == "json" else b"".join(each)

    def concatenated(self):
        """Returns the records as Firehose writes them into one object."""
        return b"".join(self.records)

    def compare(self, reader, read, expected, how=""):
        for number, (got, want) in enumerate(zip(read, expected), 1):
            if got != want:
                raise Difference("%s: event %d differs\nread     %.1000r\nexpected %.1000r" % (reader, number, got, want))
        if len(read) != len(expected):
            raise Difference("%s: %d events of %d" % (reader, len(read), len(expected)))
        print("%-34s %-16s %-14s %d events of %d, equal" % (reader, self.name, how, len(read), len(expected)), flush=True)

    def compare_lines(self, reader, data, how=""):
        assert data.endswith(b"\n"), "a line end"
        self.compare(reader, data.removesuffix(b"\n").split(b"\n"), self.lines, how)

    def compare_concatenated(self, reader, data):
        """Compares the data of all records, concatenated. The format json has no separator between events."""
        if self.format == "json":
            assert data == b"".join(self.lines), "%s: the concatenated events differ" % reader
            data = b"\n".join(self.lines) + b"\n"
        self.compare_lines(reader, data, "concatenated")


class Difference(Exception):
    pass


def milliseconds(at):
    return (at - datetime.fromtimestamp(0, timezone.utc)) // timedelta(milliseconds=1)


def read_cloudwatch(case):
    event = case.lambda_event()
    decoded = kinesis_stream_event.extract_cloudwatch_logs_from_event(kinesis_stream_event.KinesisStreamEvent(event))
    for envelope in decoded:
        check_envelope(envelope.message_type, envelope.owner, envelope.log_group, envelope.log_stream, envelope.subscription_filters)
    read = [(e.get_id, e.timestamp, e.message) for envelope in decoded for e in envelope.log_events]
    case.compare(POWERTOOLS, read, case.log_events(), "data classes")

    decoded = kinesis_model.extract_cloudwatch_logs_from_event(KinesisDataStreamModel.model_validate(event))
    for envelope in decoded:
        check_envelope(envelope.messageType, envelope.owner, envelope.logGroup, envelope.logStream, envelope.subscriptionFilters)
    read = [(e.id, milliseconds(e.timestamp), e.message) for envelope in decoded for e in envelope.logEvents]
    case.compare(POWERTOOLS, read, case.log_events(), "parser")

    parser = pyvrl.Transform(". = parse_aws_cloudwatch_log_subscription_message!(decode_gzip!(decode_base64!(.data)))")
    read = []
    for record in event["Records"]:
        envelope = parser.remap({"data": record["kinesis"]["data"]})
        check_envelope(*(envelope[name] for name in ("message_type", "owner", "log_group", "log_stream", "subscription_filters")))
        read += [(e["id"], milliseconds(e["timestamp"]), e["message"]) for e in envelope["log_events"]]
    case.compare(VECTOR, read, case.log_events())


def check_envelope(message_type, owner, group, stream, filters):
    assert message_type == "DATA_MESSAGE" and owner and group and stream and len(filters) == 1


def read_kpl(case):
    records = deaggregate_records(case.lambda_event()["Records"])
    for record in records:
        kinesis = record["kinesis"]
        assert kinesis["aggregated"] and kinesis["explicitHashKey"] is None
        assert kinesis["partitionKey"] == case.keys[int(kinesis["sequenceNumber"]) - 1]
    case.compare(AGGREGATION, [base64.b64decode(record["kinesis"]["data"]) for record in records], case.lines)


def read_gzip(case):
    case.compare_lines(GZIP, case.join(map(gzip.decompress, case.records)))
    case.compare_concatenated(GZIP, gzip.decompress(case.concatenated()))
    case.compare_lines("Python zlib, as Powertools", case.join(zlib.decompress(data, zlib.MAX_WBITS | 32) for data in case.records))


def read_zstd(case):
    case.compare_lines(ZSTD, case.join(map(zstd.decompress, case.records)))
    case.compare_concatenated(ZSTD, zstd.decompress(case.concatenated()))
    # decompress needs the content size in the frame's header.
    case.compare_lines(ZSTANDARD, case.join(map(zstandard.ZstdDecompressor().decompress, case.records)))
    with zstandard.ZstdDecompressor().stream_reader(case.concatenated(), read_across_frames=True) as reader:
        case.compare_concatenated(ZSTANDARD, reader.read())


def read_json(case):
    """Reads records of one event each, which Powertools returns as an object."""
    event = kinesis_stream_event.KinesisStreamEvent(case.lambda_event())
    read = [record.kinesis.data_as_json() for record in event.records]
    case.compare(POWERTOOLS, read, list(map(json.loads, case.lines)), "data classes")


def read_duckdb(case):
    """Reads objects as on S3: one per record, and one with all records concatenated as Firehose writes them."""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(config={"threads": 2, "memory_limit": "1GB"}) as db:

        def query(paths):
            # Returns the unchanged lines. The format json has no separator between events.
            style = "unstructured" if case.format == "json" else "newline_delimited"
            rows = db.execute(
                "SELECT json FROM read_json_objects(?, format=?, compression=?, maximum_object_size=16777216)",
                [paths, style, case.compression],
            ).fetchall()
            return [json.encode() for (json,) in rows]

        paths = []
        for number, data in enumerate(case.records, 1):
            paths.append(os.path.join(folder, "%04d" % number))
            with open(paths[-1], "wb") as file:
                file.write(data)
        concatenated = os.path.join(folder, "concatenated")
        with open(concatenated, "wb") as file:
            file.write(case.concatenated())
        case.compare(DUCKDB, query(paths), case.lines)
        case.compare(DUCKDB, query([concatenated]), case.lines, "concatenated")


def main(folder):
    for name in sorted(os.listdir(folder)):
        case = Case(os.path.join(folder, name))
        try:
            if case.format == "cloudwatch":
                read_cloudwatch(case)
                continue
            if case.format == "kpl":
                read_kpl(case)
                continue
            if case.compression == "gzip":
                read_gzip(case)
            elif case.compression == "zstd":
                read_zstd(case)
            elif case.format == "json":
                read_json(case)
            read_duckdb(case)
        except Difference as difference:
            sys.exit("FAILED: %s: %s" % (case.name, difference))


if __name__ == "__main__":
    main(sys.argv[1])
