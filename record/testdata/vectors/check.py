#!/usr/bin/env python3
"""Reads every vector as FORMAT.md specifies, with the standard library alone, and compares it with its events.

It exits with 1 if a vector differs. It reads zstd if Python has it (3.14) or the package backports.zstd is installed.
"""

import gzip
import hashlib
import json
import os
import sys
from datetime import datetime, timezone

HERE = os.path.dirname(os.path.abspath(__file__))

try:
    from compression import zstd  # Python 3.14
except ImportError:
    try:
        from backports import zstd
    except ImportError:
        zstd = None


def read(name, mode="rb", **options):
    with open(os.path.join(HERE, name), mode, **options) as file:
        return file.read()


def read_json(name):
    return json.loads(read(name, "r", encoding="utf-8"))


def uvarint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(message):
    """Yields the fields of a protobuf message: number and value."""
    at = 0
    while at < len(message):
        tag, at = uvarint(message, at)
        value, at = uvarint(message, at)
        if tag & 7 == 2:
            size, value = value, message[at:at + value]
            assert len(value) == size
            at += size
        else:
            assert tag & 7 == 0, "wire type"
        yield tag >> 3, value


def kpl(data, partition_key):
    assert data[:4] == b"\xf3\x89\x9a\xc2", "magic"
    message, digest = data[4:-16], data[-16:]
    assert hashlib.md5(message).digest() == digest, "MD5"
    keys, records = [], []
    for number, value in fields(message):
        if number == 1:
            keys.append(value.decode())
        elif number == 3:
            record = dict(fields(value))
            assert 2 not in record, "a hash key"
            assert keys[record[1]] == partition_key, "another partition key"
            records.append(record[3])
        else:
            raise AssertionError("field %d" % number)
    assert len(records) <= 500
    return records


def values(text):
    """Yields concatenated JSON values, with or without white space between them."""
    decoder = json.JSONDecoder()
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return
        value, at = decoder.raw_decode(text, at)
        yield value


def line_of(event, source):
    """Returns an event as the stream has it: Lambda's members, then the extension's."""
    raw = event["raw"][:-1]
    if event["requestId"]:
        raw += ',"requestId":"%s"' % event["requestId"]
    return raw + ',"seq":%d,"source":%s}' % (event["seq"], json.dumps(source, separators=(",", ":"), ensure_ascii=False))


def unix_milli(text):
    at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    return int(at.timestamp()) * 1000 + at.microsecond // 1000


def check_cloudwatch(vector, manifest, text, events):
    envelopes = list(values(text))
    assert len(envelopes) == vector["times"]
    for envelope in envelopes:
        log_events = envelope.pop("logEvents")
        assert envelope == {
            "messageType": "DATA_MESSAGE",
            "owner": manifest["owner"],
            "logGroup": manifest["logGroup"],
            "logStream": manifest["logStream"],
            "subscriptionFilters": ["kinesis-telemetry-extension"],
        }, envelope
        assert len(log_events) == len(events)
        if "messages" in vector:
            assert [e["message"] for e in log_events] == read_json(vector["messages"])
        for log_event, event in zip(log_events, events):
            assert list(log_event) == ["id", "timestamp", "message"]
            raw = json.loads(event["raw"])
            number = int(log_event["id"])
            assert len(log_event["id"]) == 56
            assert number >> 144 == log_event["timestamp"] == unix_milli(raw["time"])
            assert number >> 80 & (1 << 64) - 1 == event["seq"]
            assert "%020x" % (number & (1 << 80) - 1) == manifest["source"]["instance"][:20]
            if raw["type"] in ("function", "extension") and "truncated" not in raw:
                message = log_event["message"]
                if isinstance(raw["record"], str):
                    assert message == raw["record"].removesuffix("\n") + "\n", message
                else:
                    assert json.loads(message) == raw["record"], message


def check(vector, manifest):
    data = read(vector["file"])
    events = read_json(vector["events"])
    if "event" in vector:
        events = [events[vector["event"]]]
    if vector["compression"] == "gzip":
        data = gzip.decompress(data)
    elif vector["compression"] == "zstd":
        if zstd is None:
            return "skipped: this Python has no zstd"
        data = zstd.decompress(data)
    if vector["format"] == "cloudwatch":
        check_cloudwatch(vector, manifest, data.decode(), events)
        return "ok"
    lines = [line_of(event, manifest["source"]) for event in events]
    if vector["format"] == "kpl":
        got = [record.decode() for record in kpl(data, manifest["source"]["instance"])]
        assert got == lines, "events differ"
    elif vector["format"] == "json":
        assert data.decode() == lines[0] * vector["times"], "the event differs"
        assert list(values(data.decode())) == [json.loads(lines[0])] * vector["times"]
    else:
        assert data.decode() == "".join(line + "\n" for line in lines) * vector["times"], "lines differ"
    return "ok"


def main():
    manifest = read_json("vectors.json")
    failed = False
    for vector in manifest["vectors"]:
        try:
            outcome = check(vector, manifest)
        except Exception as error:  # pylint: disable=broad-except
            outcome, failed = "FAILED: %s: %s" % (type(error).__name__, error), True
        print("%-24s %s" % (vector["file"], outcome))
    sys.exit(failed)


if __name__ == "__main__":
    main()
