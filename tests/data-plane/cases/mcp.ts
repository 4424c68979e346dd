/** MCP: the tool decides, and what is not one strict message is no message. */
import { expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import type { Reply } from '../../envoy/clients.ts';
import { askPlain, askSecure, codeOf, seen } from '../ask.ts';
import type { Harness } from '../harness.ts';

const headers = ['Content-Type: application/json', 'Accept: application/json, text/event-stream'];
const callOf = (tool: string, id: number | string = 1): string =>
  JSON.stringify({
    jsonrpc: '2.0',
    id,
    method: 'tools/call',
    params: { name: tool, arguments: { query: 'x' } },
  });

/** The problem inside a JSON-RPC error, and the status that carries it: 200 where the id is known. */
const problemOf = (reply: Reply) => {
  const { id, error } = JSON.parse(reply.body);
  return { answered: reply.status === (id === null ? error.data.status : 200), ...error.data };
};

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
    [
      'a tool in two spellings',
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_docs","Name":"delete_docs"}}',
    ],
    [
      'a method in two spellings',
      '{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call","params":{"name":"delete_docs"}}',
    ],
    ['JSON in single quotes', "{'jsonrpc':'2.0','id':1,'method':'tools/list'}"],
    ['two messages', `${callOf('search_docs')} ${callOf('delete_docs')}`],
    ['a control character in a tool', callOf('search_\0docs')],
    ['an id that is null', '{"jsonrpc":"2.0","id":null,"method":"tools/list"}'],
    ['another version', '{"jsonrpc":"1.0","id":1,"method":"tools/list"}'],
    ['no JSON', 'tools/list'],
    ['no method', '{"jsonrpc":"2.0","id":1,"result":{}}'],
  ])('%s is refused and reaches no server', async (_, body) => {
    const before = seen(harness(), '/mcp');
    const problem = problemOf(await post(body));
    expect(problem).toMatchObject({ answered: true, code: 'McpInvalid', status: 400 });
    expect(problem.decision).toBe(harness().decisions.at(-1)?.decision.id);
    expect(seen(harness(), '/mcp')).toBe(before);
  });

  test('another content type is refused', async () => {
    const before = seen(harness(), '/mcp');
    const reply = await askPlain(harness(), 'mcp.test', '/mcp', {
      method: 'POST',
      headers: ['Content-Type: text/plain'],
      body: callOf('search_docs'),
    });
    expect(problemOf(reply)).toMatchObject({ code: 'McpInvalid', status: 400 });
    expect(seen(harness(), '/mcp')).toBe(before);
  });

  test('a message larger than is read is refused', async () => {
    const before = seen(harness(), '/mcp');
    const reply = await post(callOf('search_docs', 'x'.repeat(limits.inspectedBodyBytesMax)));
    expect([reply.status, codeOf(reply)]).toEqual([413, 'RequestTooLarge']);
    expect(seen(harness(), '/mcp')).toBe(before);
  });

  test.each(['GET', 'DELETE'])(
    '%s carries no message: with a body of any size it is refused',
    async (method) => {
      const before = seen(harness(), '/mcp');
      for (const body of ['x', callOf('search_docs')]) {
        const reply = await askPlain(harness(), 'mcp.test', '/mcp', { method, headers, body });
        expect(problemOf(reply)).toMatchObject({ code: 'McpInvalid', status: 400 });
      }
      const empty = await askPlain(harness(), 'mcp.test', '/mcp', { method });
      expect([empty.status, codeOf(empty)]).toEqual([403, 'EgressDenied']);
      expect(harness().decisions.at(-1)?.call.mcp).toEqual({ kind: 'none' });
      expect(seen(harness(), '/mcp')).toBe(before);
    },
  );
}
