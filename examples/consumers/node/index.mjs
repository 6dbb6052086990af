// A Lambda function in Node.js 22 or later that reads the telemetry stream and writes each event once.
// It reads ndjson, json and cloudwatch, uncompressed or with gzip or zstd (node:zlib has zstd from 22.15 on). It does not read kpl.
import zlib from 'node:zlib';

// With UNREADABLE=skip a record that cannot be read is only logged; otherwise it is also reported to Lambda. README.md explains when to
// use it.
const REPORT_UNREADABLE = process.env.UNREADABLE !== 'skip';
const MAX_BYTES = 64 * 1024 * 1024; // no record of the extension decompresses to more
const GENERATION_KEYS = 50_000; // keys of events in a generation, about 10 MB

// write is the function to replace. It writes all events or throws. The sink should ignore an event whose key it already has.
// This one POSTs lines {"key":…,"event":…}.
async function write(events) {
  const response = await fetch(process.env.SINK_URL, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: events.map(({ key, json }) => `{"key":${JSON.stringify(key)},"event":${json}}\n`).join(''),
    signal: AbortSignal.timeout(10_000),
  });
  if (!response.ok) throw new Error(`the sink answered ${response.status}`);
  await response.arrayBuffer(); // so that the connection is reused
}

export async function handler(batch) {
  const batchItemFailures = [];
  for (const { eventID, kinesis } of batch.Records) {
    const { events, unreadable } = unpack(Buffer.from(kinesis.data, 'base64'));
    const fresh = new Map(events.filter(({ key }) => !seen(key)).map((event) => [event.key, event]));
    if (fresh.size > 0) {
      try {
        await write([...fresh.values()]);
      } catch (error) {
        log('not written', eventID, error.message);
        batchItemFailures.push({ itemIdentifier: kinesis.sequenceNumber });
        break; // Lambda retries from this record on
      }
      remember(fresh.keys());
    }
    if (unreadable) {
      log('not readable', eventID, unreadable);
      if (REPORT_UNREADABLE) batchItemFailures.push({ itemIdentifier: kinesis.sequenceNumber });
    }
  }
  return { batchItemFailures };
}

// unpack returns the events that can be read, and the reason why others cannot. The reason never has content of the record, which may be
// secret.
function unpack(data) {
  const events = [];
  let text;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(decompress(data));
  } catch (error) {
    return { events, unreadable: `neither text nor compressed text: ${error.code ?? error.name}` };
  }
  let unreadable;
  text.split('\n').forEach((line, index) => {
    if (line === '') return;
    try {
      for (const event of eventsOf(line)) events.push(event);
    } catch {
      unreadable ??= `line ${index + 1} is not an event`;
    }
  });
  return { events, unreadable };
}

function decompress(data) {
  const magic = data.toString('hex', 0, 4);
  if (magic.startsWith('1f8b')) return zlib.gunzipSync(data, { maxOutputLength: MAX_BYTES });
  if (magic !== '28b52ffd') return data;
  const plain = zlib.zstdDecompressSync(data, { maxOutputLength: MAX_BYTES });
  if (plain.length === 0) throw new RangeError('cut short'); // node:zlib does not report it; an incomplete event is found later
  return plain;
}

// eventsOf returns the events of a line: one event with its bytes unchanged, or those of an envelope of CloudWatch Logs.
function eventsOf(line) {
  const value = JSON.parse(line);
  if (value.messageType === 'CONTROL_MESSAGE') return [];
  if (value.messageType) return value.logEvents.map((event) => ({ key: event.id, json: JSON.stringify(event) }));
  if (!value.source.instance || !Number.isInteger(value.seq)) throw new Error('not written by the extension');
  return [{ key: `${value.source.instance}/${value.seq}`, json: line }];
}

// The last keys that were written. When the younger generation is full, it replaces the older one.
let younger = new Set();
let older = new Set();

function seen(key) {
  return younger.has(key) || older.has(key);
}

function remember(keys) {
  for (const key of keys) younger.add(key);
  if (younger.size >= GENERATION_KEYS) [older, younger] = [younger, new Set()];
}

// log prints the record's place: an eventID is shard:sequence-number.
function log(message, eventID, reason) {
  console.error(JSON.stringify({ level: 'ERROR', message, eventID, reason }));
}
