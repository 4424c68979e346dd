/** A small MCP server (streamable HTTP, answers as JSON): one JSON-RPC message for each POST, no batches. */
import { type Exchange, head, jsonObject, sendJson } from './exchange.ts';

const tool = (name: string, description: string) => ({
  name,
  description,
  inputSchema: { type: 'object', properties: { query: { type: 'string' } }, required: ['query'] },
});
const tools = [
  tool('search_docs', 'Finds documents.'),
  tool('delete_docs', 'Deletes documents: a call that a policy should stop.'),
];

type Answer = Readonly<{ status: number; message: unknown }>;

export function mcp(exchange: Exchange): void {
  const { status, message } = answerTo(exchange);
  if (message === undefined) {
    head(exchange.response, status, { 'content-length': '0' });
    exchange.response.end();
  } else {
    sendJson(exchange.response, status, message);
  }
}

function answerTo({ request, body }: Exchange): Answer {
  const failed = (status: number, id: unknown, code: number, message: string): Answer => ({
    status,
    message: { jsonrpc: '2.0', id: id ?? null, error: { code, message } },
  });
  if (request.method !== 'POST') return failed(405, null, -32_600, 'send a POST');
  if (!/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? ''))
    return failed(415, null, -32_600, 'the content type is not application/json');
  const message = jsonObject(body);
  if (message === undefined) return failed(400, null, -32_700, 'the body is not one JSON object');
  const { id, method } = message;
  if (message['jsonrpc'] !== '2.0' || typeof method !== 'string')
    return failed(400, id, -32_600, 'the message is not JSON-RPC 2.0');
  if (id === undefined) return { status: 202, message: undefined };
  const result = (value: unknown): Answer => ({
    status: 200,
    message: { jsonrpc: '2.0', id, result: value },
  });
  switch (method) {
    case 'initialize':
      return result({
        protocolVersion: '2025-06-18',
        capabilities: { tools: {} },
        serverInfo: { name: 'sallyport-example', version: '1.0.0' },
      });
    case 'ping':
      return result({});
    case 'tools/list':
      return result({ tools });
    case 'tools/call': {
      const params = message['params'];
      const name =
        typeof params === 'object' && params !== null && 'name' in params ? params.name : undefined;
      if (!tools.some((known) => known.name === name))
        return failed(200, id, -32_602, `there is no tool ${JSON.stringify(name)}`);
      return result({ content: [{ type: 'text', text: `${String(name)}: done` }], isError: false });
    }
    default:
      return failed(200, id, -32_601, `there is no method ${JSON.stringify(method)}`);
  }
}
