/** MCP: the tool decides, and what is not one strict message is no message. */
import { expect, test } from 'vitest';
import type { Reply } from '../../envoy/clients.ts';
import { askPlain, askSecure, seen } from '../ask.ts';
import type { Harness } from '../harness.ts';

const headers = ['Content-Type: application/json', 'Accept: application/json, text/event-stream'];
const callOf = (tool: string, id: number | string = 1): string =>
  JSON.stringify({
    jsonrpc: '2.0',
    id,
    method: 'tools/call',
    params: { name: tool, arguments: { query: 'x' } },
  });

/** An answer to a known id is HTTP 200 with the problem inside. */
const statusOf = (reply: Reply): number =>
  reply.status === 200 ? Number(JSON.parse(reply.body).error.data.status) : reply.status;

export function mcpCases(harness: () => Harness): void {
  const post = (body: string): Promise<Reply> =>
    askPlain(harness(), 'mcp.test', '/mcp', { method: 'POST', headers, body });

  test('an allowed method and an allowed tool pass', async () => {
    const h = harness();
    const list = await post(JSON.stringify({ jsonrpc: '2.0', id: 'a', method: 'tools/list' }));
    expect(JSON.parse(list.body)).toMatchObject({
      id: 'a',
      result: { tools: [{ name: 'search_docs' }, {}] },
    });
    const searched = await post(callOf('search_docs'));
    expect(JSON.parse(searched.body)).toMatchObject({ id: 1, result: { isError: false } });
    expect(h.decisions.at(-1)?.call.mcp).toEqual({ kind: 'call', method: 'tools/call', tool: 'search_docs' });
    const secure = await askSecure(h, 'mcp.test', '/mcp', {
      method: 'POST',
      headers,
      body: callOf('search_docs'),
    });
    expect(JSON.parse(secure.body)).toMatchObject({ result: { isError: false } });
  });

  test('a tool that no rule allows is denied as a JSON-RPC error of the same id', async () => {
    const before = seen(harness(), '/mcp');
    const denied = await post(callOf('delete_docs', 7));
    expect(JSON.parse(denied.body)).toMatchObject({
      jsonrpc: '2.0',
      id: 7,
      error: { data: { code: 'EgressDenied' } },
    });
    expect(seen(harness(), '/mcp')).toBe(before);
  });

  test.each([
    ['a batch', `[${callOf('search_docs')}]`],
    [
      'a repeated key',
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_docs","name":"delete_docs"}}',
    ],
    ['a repeated method', '{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}'],
    ['another version', '{"jsonrpc":"1.0","id":1,"method":"tools/list"}'],
    ['no JSON', 'tools/list'],
    ['no method', '{"jsonrpc":"2.0","id":1,"result":{}}'],
  ])('%s is refused and reaches no server', async (_, body) => {
    const before = seen(harness(), '/mcp');
    const reply = await post(body);
    expect([400, 403]).toContain(statusOf(reply));
    expect(seen(harness(), '/mcp')).toBe(before);
  });

  test('another content type is refused', async () => {
    const before = seen(harness(), '/mcp');
    const reply = await askPlain(harness(), 'mcp.test', '/mcp', {
      method: 'POST',
      headers: ['Content-Type: text/plain'],
      body: callOf('search_docs'),
    });
    expect([400, 403]).toContain(statusOf(reply));
    expect(seen(harness(), '/mcp')).toBe(before);
  });
}
