import { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { createConnections } from '../../../sidecar/embedded/connections.ts';

const refusal = expect.objectContaining({ code: 'Overloaded' });
const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => socket.once('close', () => resolve()));

/** Eight in all: two for each agent, and two for those that are nobody's. */
const openTo = (connections: ReturnType<typeof createConnections>, id: string): Socket => {
  const socket = new Socket();
  connections.opened(id, socket);
  return socket;
};

test('an agent has so many connections, each counted once whatever it carries, and gets them back', async () => {
  const connections = createConnections(8);
  const sockets = ['a', 'b', 'c'].map((id) => openTo(connections, id));
  for (const id of ['a', 'a', 'b', 'b']) connections.claim(id, 'tester');
  expect(() => connections.claim('c', 'tester')).toThrow(refusal);
  connections.claim('c', 'clerk');
  const end = sockets.slice(0, 1).map(closed);
  sockets[0]?.destroy();
  await Promise.all(end);
  connections.claim('c', 'tester');
});

test('a connection counts for each agent that it carries', async () => {
  const connections = createConnections(4);
  const [shared] = [openTo(connections, 'shared'), openTo(connections, 'other')];
  connections.claim('shared', 'tester');
  connections.claim('shared', 'clerk');
  for (const agent of ['tester', 'clerk']) expect(() => connections.claim('other', agent)).toThrow(refusal);
  const end = closed(shared);
  shared.destroy();
  await end;
  for (const agent of ['tester', 'clerk']) connections.claim('other', agent);
});

test('past the share of nobody the oldest that is nobody’s is closed', () => {
  const connections = createConnections(8);
  const mine = openTo(connections, 'mine');
  connections.claim('mine', 'tester');
  const idle = ['a', 'b', 'c', 'd'].map((id) => openTo(connections, id));
  expect(idle.map(({ destroyed }) => destroyed)).toEqual([true, true, false, false]);
  expect(mine.destroyed).toBe(false);
});

test('a connection that is closed already claims nothing', async () => {
  const connections = createConnections(4);
  const gone = openTo(connections, 'gone');
  const end = closed(gone);
  gone.destroy();
  await end;
  connections.claim('gone', 'tester');
  openTo(connections, 'next');
  connections.claim('next', 'tester');
});
