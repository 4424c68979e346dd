/**
 * The MCP message of a request whose body the data plane read. One reading for both planes: where two parsers
 * read the same bytes, a message that they read differently passes as what it is not.
 */
import { methodsWithoutMessage, readMcp } from '../filters/content/mcp.ts';
import type { Body, McpCall } from '../filters/facts.ts';

const invalid = (reason: string): McpCall => ({ kind: 'invalid', reason });

export function mcpIn(method: string, body: Body, contentType: string): McpCall {
  switch (body.kind) {
    case 'unread':
      return invalid('the message was not read');
    case 'too-large':
      return invalid(`the body is larger than ${body.limitBytes} bytes`);
    case 'whole':
      if (!methodsWithoutMessage.includes(method)) return readMcp(body.bytes, contentType);
      // A lenient server may read a message where its transport knows none.
      return body.bytes.byteLength === 0 ? { kind: 'none' } : invalid(`${method} carries no message`);
  }
}
