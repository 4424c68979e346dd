/**
 * `node:http`, as `require` gives it. An `import` reads every export, `WebSocket` among them, and that loads all of
 * Node's fetch: 11 MiB and some 50 ms that nothing here has a use for. `tests/repository/tidy.test.ts` holds it.
 */
import type * as Http from 'node:http';

export const { Agent, createServer, IncomingMessage, request, ServerResponse, STATUS_CODES } =
  process.getBuiltinModule('node:http');

export type IncomingMessage = Http.IncomingMessage;
export type ServerResponse = Http.ServerResponse;
export type { RequestListener, Server } from 'node:http';
