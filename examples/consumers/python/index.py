"""A Lambda function in Python that reads the telemetry stream and hands each event on once.

It reads ndjson, json and cloudwatch, uncompressed or as gzip, from Python 3.14 on also as zstd. It does not read kpl.
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

# UNREADABLE=skip only logs a record that cannot be read; otherwise Lambda is told of it, too. README.md says which to take.
REPORT_UNREADABLE = os.environ.get("UNREADABLE") != "skip"
MAX_BYTES = 64 * 1024 * 1024  # no record of the extension decompresses to more
REMEMBERED = 50_000  # keys of events in a generation, about 10 MB


def write(events):
    """Is what you replace. It writes all events, or raises. Each has a key: write so that a key that is written again changes nothing.

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
            except Exception as error:  # whatever it is: what is not written comes again
                log("not written", item["eventID"], str(error))
                failures.append({"itemIdentifier": number})
                break  # Lambda sends this record and all behind it again
            remember(fresh)
        if unreadable:
            log("not readable", item["eventID"], unreadable)
            if REPORT_UNREADABLE:
                failures.append({"itemIdentifier": number})
    return {"batchItemFailures": failures}


def unpack(data):
    """Returns the events that can be read, and why others cannot: never with words of the record, which may be secret."""
    events, unreadable = [], None
    try:
        lines = decompress(data).split(b"\n")
    except Exception as error:
        return events, "it cannot be decompressed: " + type(error).__name__
    for number, line in enumerate(lines, 1):
        try:
            events += events_of(line) if line else []
        except Exception:  # a RecursionError, too: none may end the invocation, or the shard would stand still
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
    """Returns the events of a line: one, or those of an envelope of CloudWatch Logs. The bytes of an event stay as they are."""
    value = json.loads(line)
    if value.get("messageType") == "CONTROL_MESSAGE":
        return []
    if "messageType" in value:
        return [(event["id"], json.dumps(event).encode()) for event in value["logEvents"]]
    return [("%s/%d" % (value["source"]["instance"], value["seq"]), line)]


# The keys that were written last. The older generation is forgotten when the younger is full.
younger, older = set(), set()


def seen(key):
    return key in younger or key in older


def remember(keys):
    global younger, older
    younger.update(keys)
    if len(younger) >= REMEMBERED:
        older, younger = younger, set()


def log(message, event_id, reason):
    """Prints where the record lies: an eventID is shard:sequence-number."""
    print(json.dumps({"level": "ERROR", "message": message, "eventID": event_id, "reason": reason}))
