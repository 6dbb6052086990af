// node client.mjs FILE NAME: serves Lambda's Runtime API with the handler NAME that FILE exports, as Lambda's own runtime for Node.js
// does. It does not stream responses.
import { AsyncLocalStorage } from 'node:async_hooks';
import http from 'node:http';
import { pathToFileURL } from 'node:url';
import { format } from 'node:util';

const env = process.env;
const [file, name] = process.argv.splice(2);
const [host, port] = env.AWS_LAMBDA_RUNTIME_API.split(':');
const concurrency = Number(env.AWS_LAMBDA_MAX_CONCURRENCY ?? 1);
const json = env.AWS_LAMBDA_LOG_FORMAT === 'JSON';
const levels = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
const least = levels.indexOf(env.AWS_LAMBDA_LOG_LEVEL?.toUpperCase() ?? (json ? 'INFO' : 'TRACE'));
env.AWS_EXECUTION_ENV = `AWS_Lambda_nodejs${process.versions.node.split('.')[0]}.x`;

const agent = new http.Agent({ keepAlive: true });
const scope = new AsyncLocalStorage(); // has the request id of concurrent invocations
const running = new Set(); // request ids
let lastID; // without concurrency a line belongs to the last invocation, even if an earlier one started the work
let whenIdle; // called once the event loop is empty

function call(method, path, body, headers) {
  return new Promise((resolve, reject) => {
    const request = http.request({ agent, host, port, method, path: `/2018-06-01/runtime/${path}`, headers }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) }));
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

// Logs.

function describe(error) {
  const stack = String(error.stack ?? '').split('\n');
  const ours = stack.findIndex((line) => line.includes(import.meta.url));
  return { errorType: error.name ?? 'Error', errorMessage: error.message, stackTrace: ours > 0 ? stack.slice(0, ours) : stack };
}

// A message must be one line, because each line becomes an event. Like Lambda's runtime, this replaces \n by \r.
const write = (line) => process.stdout.write(`${line.replaceAll('\n', '\r')}\n`);

function log(level, ...args) {
  if (levels.indexOf(level) < least) return;
  const timestamp = new Date().toISOString();
  const requestId = concurrency > 1 ? scope.getStore() : lastID;
  if (!json) return write(`${timestamp}\t${requestId}\t${level}\t${format(...args)}`);
  const line = { timestamp, level, requestId, message: args.length === 1 ? args[0] : format(...args) };
  const error = args.length > 1 && args.find((arg) => arg instanceof Error);
  if (error) Object.assign(line, describe(error));
  try {
    write(JSON.stringify(line, (_, value) => (value instanceof Error ? describe(value) : value)));
  } catch { // a cycle, a BigInt
    write(JSON.stringify({ ...line, message: format(...args) }));
  }
}

for (const level of levels) console[level.toLowerCase()] = (...args) => log(level, ...args);
console.log = console.info;

// logFailure logs an error as Lambda's runtime does, in text after a title.
function logFailure(title, failure) {
  if (json) return log('ERROR', failure);
  const { errorType, errorMessage, stackTrace: stack } = failure;
  log('ERROR', `${title} \t${JSON.stringify({ errorType, errorMessage, stack })}`);
}

// Errors.

function named(type, error) {
  const renamed = new Error(String(error));
  return Object.assign(renamed, { name: type, stack: error.stack ?? `${type}: ${error}` });
}

// failureOf describes a thrown value or the reason of a rejection.
const failureOf = (error) => (error instanceof Error
  ? describe(error) : { errorType: typeof error, errorMessage: String(error), stackTrace: [] });

function post(path, { errorType, errorMessage, stackTrace: trace }) {
  return call('POST', path, JSON.stringify({ errorType, errorMessage, trace }), {
    'Content-Type': 'application/json', 'Lambda-Runtime-Function-Error-Type': encodeURI(errorType),
  });
}

// die ends the process for an uncaught error, which is reported for the running invocations.
async function die(error) {
  const failure = failureOf(error);
  logFailure('Uncaught Exception', failure);
  await Promise.allSettled([...running].map((id) => post(`invocation/${id}/error`, failure)));
  process.exit(129);
}
process.on('uncaughtException', die);
process.on('unhandledRejection', (reason) => die(named('Runtime.UnhandledPromiseRejection', reason ?? 'undefined')));
process.on('beforeExit', () => {
  const then = whenIdle;
  whenIdle = undefined;
  then?.();
});

// The handler.

globalThis.awslambda = {
  streamifyResponse() { throw new Error('this runtime client does not stream responses: awslambda.streamifyResponse is not supported'); },
};

async function load() {
  let module;
  try {
    module = await import(pathToFileURL(file));
  } catch (error) {
    if (['MODULE_NOT_FOUND', 'ERR_MODULE_NOT_FOUND'].includes(error?.code)) throw named('Runtime.ImportModuleError', error);
    throw error instanceof SyntaxError ? named('Runtime.UserCodeSyntaxError', error) : error;
  }
  const find = (from) => name.split('.').reduce((value, key) => value?.[key], from);
  const handler = find(module) ?? find(module.default); // the exports of a CommonJS module are its default export
  if (handler === undefined) throw named('Runtime.HandlerNotFound', `${env._HANDLER} is undefined or not exported`);
  if (typeof handler !== 'function') throw named('Runtime.HandlerNotFound', `${env._HANDLER} is not a function`);
  return handler;
}

function contextOf(headers) {
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  const parse = (header) => headers[header] && JSON.parse(headers[header]);
  return {
    callbackWaitsForEmptyEventLoop: true,
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: parse('lambda-runtime-client-context'),
    identity: parse('lambda-runtime-cognito-identity'),
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
  };
}

// run calls the handler. If it returns no promise, its response is that of the callback, or null once the event loop is empty.
function run(handler, event, context) {
  return new Promise((resolve, reject) => {
    let called = false;
    const done = (error, result) => {
      if (called) return;
      called = true;
      const settle = () => (error === null || error === undefined ? resolve(result) : reject(error));
      if (context.callbackWaitsForEmptyEventLoop) whenIdle = settle;
      else settle();
    };
    whenIdle = () => resolve(null);
    Object.assign(context, { done, succeed: (result) => done(null, result), fail: (error) => done(error ?? 'handled') });
    const returned = handler(event, context, done);
    if (typeof returned?.then === 'function') returned.then(resolve, reject);
  });
}

async function serve(handler) {
  for (;;) {
    const next = await call('GET', 'invocation/next');
    if (next.status !== 200) throw new Error(`the Runtime API answered ${next.status}: ${next.body}`);
    const id = next.headers['lambda-runtime-aws-request-id'];
    env._X_AMZN_TRACE_ID = next.headers['lambda-runtime-trace-id'] ?? '';
    lastID = id;
    running.add(id);
    await scope.run(id, async () => {
      try {
        const result = await run(handler, JSON.parse(next.body), contextOf(next.headers));
        whenIdle = undefined;
        const body = JSON.stringify(result) ?? 'null';
        running.delete(id);
        await call('POST', `invocation/${id}/response`, body, { 'Content-Type': 'application/json' });
      } catch (error) {
        whenIdle = undefined;
        const failure = failureOf(error);
        logFailure('Invoke Error', failure);
        running.delete(id);
        await post(`invocation/${id}/error`, failure);
      }
    });
  }
}

let handler;
try {
  handler = await load();
} catch (error) {
  const failure = failureOf(error);
  failure.stackTrace = failure.stackTrace.filter((line) => !line.includes('node:internal/')); // these frames only load the module
  logFailure('Uncaught Exception', failure);
  await post('init/error', failure);
  process.exit(129);
}
for (let i = 0; i < concurrency; i++) serve(handler);
