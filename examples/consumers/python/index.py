"""A Lambda function in Python that reads the telemetry stream and writes each event once.

It reads ndjson, json and cloudwatch, uncompressed or with gzip, from Python 3.14 on also with zstd. It does not read kpl.
"""

import base64
import json
import os
import urllib.request
import zlib

try:
    from compression import zstd
except ImportError:  # before Python 3.14
    zstd = None

# With UNREADABLE=skip a record that cannot be read is only logged; otherwise it is also reported to Lambda. README.md explains when to
# use it.
REPORT_UNREADABLE = os.environ.get("UNREADABLE") != "skip"
MAX_BYTES = 64 * 1024 * 1024  # no record of the extension decompresses to more
GENERATION_KEYS = 50_000  # keys of events in a generation, about 10 MB


def write(events):
    """Writes all events or raises: the function to replace. The sink should ignore an event whose key it already has.

    This one POSTs lines {"key":…,"event":…}.
    """
    body = b"".join(b'{"key":%s,"event":%s}\n' % (json.dumps(key).encode(), event) for key, event in events.items())
    request = urllib.request.Request(os.environ["SINK_URL"], body, {"Content-Type": "application/x-ndjson"})
    with urllib.request.urlopen(request, timeout=10):
        pass


def handler(batch, context):
    failures = []
    for item in batch["Records"]:
        number = item["kinesis"]["sequenceNumber"]
        events, unreadable = unpack(base64.b64decode(item["kinesis"]["data"]))
        fresh = {key: event for key, event in events if not seen(key)}
        if fresh:
            try:
                write(fresh)
            except Exception as error:  # of any kind: Lambda retries the events that are not written
                log("not written", item["eventID"], str(error))
                failures.append({"itemIdentifier": number})
                break  # Lambda retries from this record on
            remember(fresh)
        if unreadable:
            log("not readable", item["eventID"], unreadable)
            if REPORT_UNREADABLE:
                failures.append({"itemIdentifier": number})
    return {"batchItemFailures": failures}


def unpack(data):
    """Returns the events that can be read, and the reason why others cannot.

    The reason never has content of the record, which may be secret.
    """
    events, unreadable = [], None
    try:
        lines = decompress(data).split(b"\n")
    except Exception as error:
        return events, "it cannot be decompressed: " + type(error).__name__
    for number, line in enumerate(lines, 1):
        try:
            events += events_of(line) if line else []
        except Exception:  # also a RecursionError: an exception that ends the invocation would block the shard
            unreadable = unreadable or "line %d is not an event" % number
    return events, unreadable


def decompress(data):
    if data.startswith(b"\x1f\x8b"):
        decompressor = zlib.decompressobj(wbits=31)
    elif data.startswith(b"\x28\xb5\x2f\xfd") and zstd:
        decompressor = zstd.ZstdDecompressor()
    else:
        return data
    plain = decompressor.decompress(data, MAX_BYTES)
    if not decompressor.eof:
        raise ValueError("cut short, or too large")
    return plain


def events_of(line):
    """Returns the events of a line: one event with its bytes unchanged, or those of an envelope of CloudWatch Logs."""
    value = json.loads(line)
    if value.get("messageType") == "CONTROL_MESSAGE":
        return []
    if "messageType" in value:
        return [(event["id"], json.dumps(event).encode()) for event in value["logEvents"]]
    return [("%s/%d" % (value["source"]["instance"], value["seq"]), line)]


# The last keys that were written. When the younger generation is full, it replaces the older one.
younger, older = set(), set()


def seen(key):
    return key in younger or key in older


def remember(keys):
    global younger, older
    younger.update(keys)
    if len(younger) >= GENERATION_KEYS:
        older, younger = younger, set()


def log(message, event_id, reason):
    """Prints the record's place: an eventID is shard:sequence-number."""
    print(json.dumps({"level": "ERROR", "message": message, "eventID": event_id, "reason": reason}))
