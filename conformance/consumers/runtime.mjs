// node runtime.mjs FILE: serves the Runtime API with the function `handler` that FILE exports, as Lambda's own runtime does.
import { pathToFileURL } from 'node:url';

const api = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`;
const { handler } = await import(pathToFileURL(process.argv[2]));
for (;;) {
  const next = await fetch(`${api}/next`);
  const id = next.headers.get('lambda-runtime-aws-request-id');
  let answer = 'response';
  let body;
  try {
    body = await handler(await next.json(), { awsRequestId: id });
  } catch (error) {
    answer = 'error';
    body = { errorType: error.name, errorMessage: error.message };
  }
  await (await fetch(`${api}/${id}/${answer}`, { method: 'POST', body: JSON.stringify(body) })).arrayBuffer();
}
