"""clients.py CLIENT COUNT: see check.sh. Both clients have the same methods. One calls boto3, the other runs the AWS CLI."""

import base64
import json
import os
import subprocess
import sys
import time

STREAM = "orders"
TIMEOUT = 30  # seconds, far more than a client needs


class Boto3:
    def __init__(self):
        import boto3
        from botocore.config import Config

        self.client = boto3.client("kinesis", config=Config(retries={"max_attempts": 20, "mode": "standard"}))

    def put(self, data):
        self.client.put_record(StreamName=STREAM, PartitionKey=data, Data=data.encode())

    def put_all(self, batch):
        entries = [{"PartitionKey": data, "Data": data.encode()} for data in batch]
        return self.client.put_records(StreamName=STREAM, Records=entries)["Records"]

    def shards(self):
        self.client.get_waiter("stream_exists").wait(StreamName=STREAM)
        return [shard["ShardId"] for shard in self.client.list_shards(StreamName=STREAM)["Shards"]]

    def iterator(self, shard):
        it = self.client.get_shard_iterator(StreamName=STREAM, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
        return it["ShardIterator"]

    def read(self, iterator):
        page = self.client.get_records(ShardIterator=iterator)
        return [record["Data"] for record in page["Records"]], page["NextShardIterator"]


class CLI:
    """Version 1 of the AWS CLI, whose arguments have the data themselves. Version 2 needs base64."""

    def __init__(self):
        self.program = os.path.join(os.path.dirname(sys.executable), "aws")
        os.environ.update(AWS_RETRY_MODE="standard", AWS_MAX_ATTEMPTS="20")

    def call(self, operation, *arguments):
        done = subprocess.run([self.program, "kinesis", operation, *arguments], stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout) if done.stdout else None

    def put(self, data):
        self.call("put-record", "--stream-name", STREAM, "--partition-key", data, "--data", data)

    def put_all(self, batch):
        entries = [{"PartitionKey": data, "Data": data} for data in batch]
        return self.call("put-records", "--stream-name", STREAM, "--records", json.dumps(entries))["Records"]

    def shards(self):
        self.call("wait", "stream-exists", "--stream-name", STREAM)
        return [shard["ShardId"] for shard in self.call("list-shards", "--stream-name", STREAM)["Shards"]]

    def iterator(self, shard):
        return self.call("get-shard-iterator", "--stream-name", STREAM, "--shard-id", shard, "--shard-iterator-type", "TRIM_HORIZON")["ShardIterator"]

    def read(self, iterator):
        page = self.call("get-records", "--shard-iterator", iterator)
        return [base64.b64decode(record["Data"]) for record in page["Records"]], page["NextShardIterator"]


def write(client, batch):
    client.put(batch.pop(0))
    deadline = time.monotonic() + TIMEOUT
    while batch:  # rejected records are retried
        results = client.put_all(batch)
        batch = [data for data, result in zip(batch, results, strict=True) if result.get("ErrorCode")]
        if time.monotonic() > deadline:
            sys.exit(f"{len(batch)} records are still rejected")


def read(client, wanted):
    iterators = [client.iterator(shard) for shard in client.shards()]
    deadline = time.monotonic() + TIMEOUT
    seen = []
    while not wanted <= set(seen):
        for i, iterator in enumerate(iterators):
            records, iterators[i] = client.read(iterator)
            seen += [data.decode() for data in records]
        if time.monotonic() > deadline:
            sys.exit(f"missing: {sorted(wanted - set(seen))}")
    return seen


def main():
    name, count = sys.argv[1], int(sys.argv[2])
    client = {"boto3": Boto3, "aws": CLI}[name]()
    batch = [f"{name} {n}" for n in range(count)]
    write(client, list(batch))
    print("read")
    for data in read(client, set(batch)):
        print(data)


main()
