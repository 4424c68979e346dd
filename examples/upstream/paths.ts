/** The paths of the example upstream. */
import { type Exchange, head, sendEvents, sendJson, write } from './exchange.ts';
import { mcp } from './mcp.ts';
import { chatCompletions, listModels, messages } from './models.ts';

export type Counters = { orders: number; limited: number };

const amount = (url: URL, name: string, otherwise: number, max: number): number => {
  const text = url.searchParams.get(name) ?? '';
  return /^\d{1,9}$/.test(text) ? Math.min(Number(text), max) : otherwise;
};

export async function answer(exchange: Exchange, counters: Counters): Promise<void> {
  const { request, response, url, body } = exchange;
  const path = url.pathname;
  if (body === undefined) return sendJson(response, 413, { error: 'the body is larger than 16 MiB' });
  if (request.headers['content-type']?.startsWith('application/grpc') === true) return grpcEcho(exchange);
  if (path.startsWith('/admin/') || path === '/admin') return sendJson(response, 200, { admin: path });
  if (path.startsWith('/status/')) return status(exchange, path);
  switch (path) {
    case '/hello':
      return sendJson(response, 200, { hello: 'from the example upstream' });
    case '/limited':
      counters.limited += 1;
      return sendJson(response, 200, { served: counters.limited });
    case '/orders':
      if (request.method !== 'POST') return sendJson(response, 405, { error: 'send a POST' });
      counters.orders += 1;
      return sendJson(response, 201, { order: counters.orders, bytes: body.length });
    case '/stream': {
      const ticks = amount(url, 'ticks', 5, 1_000);
      const events = Array.from({ length: ticks }, (_, index) => `data: tick ${index + 1}`);
      return sendEvents(response, events, amount(url, 'ms', 200, 60_000));
    }
    case '/mcp':
      return mcp(exchange);
    case '/v1/models':
      return listModels(exchange);
    case '/v1/chat/completions':
      return chatCompletions(exchange);
    case '/v1/messages':
      return messages(exchange);
    case '/echo':
      return sendJson(response, 200, {
        method: request.method,
        path: request.url,
        http: request.httpVersion,
        headers: Object.fromEntries(
          Object.entries(request.headers).filter(([name]) => !name.startsWith(':')),
        ),
        bodyBytes: body.length,
      });
    case '/bytes':
      return bytes(exchange, amount(url, 'n', 1_024, 64 * 1024 * 1024));
    case '/redirect':
      return sendJson(response, 302, { moved: true }, { location: url.searchParams.get('to') ?? '/hello' });
    case '/trailers':
      head(response, 200, { 'content-type': 'text/plain', trailer: 'x-checksum' });
      write(response, 'body\n');
      response.addTrailers({ 'x-checksum': 'abc' });
      response.end();
      return;
    case '/hints':
      response.writeEarlyHints({ link: '</style.css>; rel=preload' });
      return sendJson(response, 200, { hinted: true });
    default:
      return sendJson(response, 404, { error: `there is no ${path}` });
  }
}

function status({ response }: Exchange, path: string): void {
  const code = Number(path.slice('/status/'.length));
  if (!Number.isInteger(code) || code < 200 || code > 599) {
    sendJson(response, 400, { error: 'not a status' });
  } else if (code === 204 || code === 304) {
    head(response, code, { etag: '"example"' });
    response.end();
  } else {
    sendJson(response, code, { status: code });
  }
}

/** Writes as fast as the client reads, never more than one chunk ahead. */
function bytes({ response }: Exchange, total: number): void {
  head(response, 200, { 'content-type': 'application/octet-stream', 'content-length': String(total) });
  const chunk = Buffer.alloc(64 * 1024, 0x61);
  let left = total;
  const more = (): void => {
    while (left > 0) {
      const part = chunk.subarray(0, Math.min(left, chunk.length));
      left -= part.length;
      if (!('stream' in response ? response.write(part) : response.write(part))) {
        response.once('drain', more);
        return;
      }
    }
    response.end();
  };
  more();
}

/** Any unary gRPC call gets its own message back; the status travels as a trailer. */
function grpcEcho({ response, body }: Exchange): void {
  head(response, 200, { 'content-type': 'application/grpc' });
  if (body !== undefined && body.length > 0) write(response, body);
  response.addTrailers({ 'grpc-status': '0', 'grpc-message': '' });
  response.end();
}
