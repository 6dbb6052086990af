// Reads every case with Node.js: Powertools for AWS Lambda (TypeScript), aws-kinesis-agg, zlib, fzstd. NODE_PATH has the packages' folder.
//
// Not tested, because these readers lose or change data without an error:
// - zlib of Node.js reads only the first of several concatenated zstd frames, with zstdDecompressSync and as a stream.
// - KinesisDataStreamSchema of Powertools returns uncompressed ndjson as a string, and ndjson with gzip, zstd and KPL as a string of
//   broken characters. It returns a record of one event, with gzip or not, as an object.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { isDeepStrictEqual } = require('node:util');
const zlib = require('node:zlib');

const { deaggregateSync } = require('aws-kinesis-agg');
const fzstd = require('fzstd');
const { Base64Encoded } = require('@aws-lambda-powertools/parser/helpers');
const { CloudWatchLogsDecodeSchema, CloudWatchLogsSchema } = require('@aws-lambda-powertools/parser/schemas/cloudwatch');
const { KinesisDataStreamRecord, KinesisDataStreamRecordPayload, KinesisDataStreamSchema } = require('@aws-lambda-powertools/parser/schemas/kinesis');

const version = (name) => JSON.parse(fs.readFileSync(path.join(process.env.NODE_PATH, name, 'package.json'), 'utf8')).version;
const POWERTOOLS = `Powertools TypeScript ${version('@aws-lambda-powertools/parser')}`;
const AGGREGATION = `npm aws-kinesis-agg ${version('aws-kinesis-agg')}`;
const FZSTD = `npm fzstd ${version('fzstd')}`;
const NODE = `Node.js ${process.versions.node} zlib`;

class Difference extends Error {}

class Case {
  constructor(folder) {
    this.name = path.basename(folder);
    [this.format, this.compression] = this.name.split('-');
    const records = path.join(folder, 'records');
    this.records = fs.readdirSync(records).sort().map((name) => fs.readFileSync(path.join(records, name)));
    this.keys = fs.readFileSync(path.join(folder, 'keys.txt'), 'ascii').trim().split('\n');
    this.lines = fs.readFileSync(path.join(folder, 'events.ndjson'), 'utf8').replace(/\n$/, '').split('\n');
    assert.equal(this.records.length, this.keys.length);
  }

  // Returns the records as an event source mapping passes them to a function.
  lambdaEvent() {
    return {
      Records: this.records.map((data, index) => ({
        kinesis: {
          kinesisSchemaVersion: '1.0',
          partitionKey: this.keys[index],
          sequenceNumber: String(index),
          data: data.toString('base64'),
          approximateArrivalTimestamp: 1700000000.125,
        },
        eventSource: 'aws:kinesis',
        eventVersion: '1.0',
        eventID: `shardId-000000000000:${index}`,
        eventName: 'aws:kinesis:record',
        invokeIdentityArn: 'arn:aws:iam::123456789012:role/consumer',
        awsRegion: 'us-east-1',
        eventSourceARN: 'arn:aws:kinesis:us-east-1:123456789012:stream/telemetry-kinesis-stream',
      })),
    };
  }

  compare(reader, read, expected, how = '') {
    for (let i = 0; i < Math.min(read.length, expected.length); i++) {
      if (!isDeepStrictEqual(read[i], expected[i])) {
        const show = (value) => JSON.stringify(value).slice(0, 1000);
        throw new Difference(`${reader}: event ${i + 1} differs\nread     ${show(read[i])}\nexpected ${show(expected[i])}`);
      }
    }
    if (read.length !== expected.length) {
      throw new Difference(`${reader}: ${read.length} events of ${expected.length}`);
    }
    console.log(`${reader.padEnd(34)} ${this.name.padEnd(16)} ${how.padEnd(14)} ${read.length} events of ${expected.length}, equal`);
  }

  // Compares bytes. The format json has no separator between events.
  compareData(reader, data, how = '') {
    const end = this.format === 'json' ? '' : '\n';
    const expected = Buffer.from(this.lines.map((line) => line + end).join(''));
    if (!expected.equals(data)) {
      throw new Difference(`${reader} ${how}: the bytes differ: ${data.length} of ${expected.length}`);
    }
    this.compare(reader, this.lines, this.lines, how);
  }
}

function readCloudWatch(c) {
  const expected = c.lines.map((line) => JSON.parse(line));
  let envelopes = c.records.map((data) => CloudWatchLogsSchema.parse({ awslogs: { data: data.toString('base64') } }).awslogs.data);
  envelopes.forEach(checkEnvelope);
  c.compare(POWERTOOLS, envelopes.flatMap((envelope) => envelope.logEvents), expected, 'CloudWatchLogs');

  const schema = KinesisDataStreamSchema.extend({
    Records: KinesisDataStreamRecord.extend({
      kinesis: KinesisDataStreamRecordPayload.extend({ data: Base64Encoded(CloudWatchLogsDecodeSchema) }),
    }).array(),
  });
  envelopes = schema.parse(c.lambdaEvent()).Records.map((record) => record.kinesis.data);
  envelopes.forEach(checkEnvelope);
  c.compare(POWERTOOLS, envelopes.flatMap((envelope) => envelope.logEvents), expected, 'Kinesis');
}

function checkEnvelope({ messageType, owner, logGroup, logStream, subscriptionFilters }) {
  assert.ok(messageType === 'DATA_MESSAGE' && owner && logGroup && logStream && subscriptionFilters.length === 1);
}

function readKPL(c) {
  const read = [];
  for (const { kinesis } of c.lambdaEvent().Records) {
    const checkMD5 = true;
    deaggregateSync(kinesis, checkMD5, (error, records) => {
      assert.ifError(error);
      for (const [index, record] of records.entries()) {
        assert.equal(record.partitionKey, kinesis.partitionKey);
        assert.equal(record.explicitPartitionKey, undefined);
        assert.equal(record.subSequenceNumber, index);
        read.push(Buffer.from(record.data, 'base64').toString());
      }
    });
  }
  c.compare(AGGREGATION, read, c.lines);
}

function readGzip(c) {
  c.compareData(NODE, Buffer.concat(c.records.map((data) => zlib.gunzipSync(data))));
  c.compareData(NODE, zlib.gunzipSync(Buffer.concat(c.records)), 'concatenated');
}

function readZstd(c) {
  c.compareData(NODE, Buffer.concat(c.records.map((data) => zlib.zstdDecompressSync(data))));
  c.compareData(FZSTD, Buffer.concat(c.records.map((data) => fzstd.decompress(data))));
  c.compareData(FZSTD, Buffer.from(fzstd.decompress(Buffer.concat(c.records))), 'concatenated');
}

// Reads records of one event each: Powertools returns an object, and also decompresses gzip.
function readJSON(c) {
  const read = KinesisDataStreamSchema.parse(c.lambdaEvent()).Records.map((record) => record.kinesis.data);
  c.compare(POWERTOOLS, read, c.lines.map((line) => JSON.parse(line)), 'Kinesis');
}

for (const name of fs.readdirSync(process.argv[2]).sort()) {
  const c = new Case(path.join(process.argv[2], name));
  try {
    if (c.format === 'cloudwatch') readCloudWatch(c);
    else if (c.format === 'kpl') readKPL(c);
    else {
      if (c.compression === 'gzip') readGzip(c);
      if (c.compression === 'zstd') readZstd(c);
      if (c.format === 'json' && c.compression !== 'zstd') readJSON(c);
    }
  } catch (error) {
    console.error(`FAILED: ${c.name}: ${error instanceof Difference ? error.message : error.stack}`);
    process.exit(1);
  }
}
