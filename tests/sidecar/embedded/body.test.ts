import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { createBodyBudget } from '../../../sidecar/embedded/body.ts';

const posting = (...chunks: readonly (Buffer | null)[]): IncomingMessage => {
  const request = new IncomingMessage(new Socket());
  for (const chunk of chunks) request.push(chunk);
  return request;
};

test('a body is read whole and its room given back', async () => {
  const budget = createBodyBudget(8);
  for (let round = 0; round < 3; round += 1) {
    const body = await budget.read(posting(Buffer.from('abcd'), Buffer.from('efgh'), null));
    expect(body).toEqual({ kind: 'whole', bytes: Buffer.from('abcdefgh') });
    budget.release(body);
  }
});

test('bodies past the room of all together are refused as overload, and room comes back', async () => {
  const budget = createBodyBudget(8);
  const first = await budget.read(posting(Buffer.from('abcdef'), null));
  await expect(budget.read(posting(Buffer.from('ghi'), null))).rejects.toMatchObject({ code: 'Overloaded' });
  budget.release(first);
  await expect(budget.read(posting(Buffer.from('ghi'), null))).resolves.toMatchObject({ kind: 'whole' });
});

test('a body past its own limit is told as too large, by its declaration or once it is', async () => {
  const budget = createBodyBudget();
  const tooLarge = { kind: 'too-large', limitBytes: limits.inspectedBodyBytesMax };
  const declared = posting();
  declared.headers['content-length'] = String(limits.inspectedBodyBytesMax + 1);
  await expect(budget.read(declared)).resolves.toEqual(tooLarge);
  const half = Buffer.alloc(limits.inspectedBodyBytesMax / 2 + 1);
  await expect(budget.read(posting(half, half))).resolves.toEqual(tooLarge);
});

test('a client that leaves half-way frees what it took', async () => {
  const budget = createBodyBudget(8);
  const request = posting(Buffer.from('abcdef'));
  const reading = budget.read(request);
  setImmediate(() => request.destroy(new Error('gone')));
  await expect(reading).rejects.toMatchObject({ code: 'RequestMalformed' });
  await expect(budget.read(posting(Buffer.from('abcdefgh'), null))).resolves.toMatchObject({ kind: 'whole' });
});

test('a body in pieces of one byte is one buffer, counted with the room it takes', async () => {
  const budget = createBodyBudget(16);
  const body = await budget.read(posting(...Array.from('123456789', (one) => Buffer.from(one)), null));
  expect(body).toEqual({ kind: 'whole', bytes: Buffer.from('123456789') });
  if (body.kind !== 'whole') throw new Error('not whole');
  expect(body.bytes.buffer.byteLength).toBe(16);
  await expect(budget.read(posting(Buffer.from('x'), null))).rejects.toMatchObject({ code: 'Overloaded' });
  budget.release(body);
  await expect(budget.read(posting(Buffer.alloc(16), null))).resolves.toMatchObject({ kind: 'whole' });
});

test('no chunk of a body is kept: a piece of one byte would hold the whole read it came with', async () => {
  const request = posting();
  const reading = createBodyBudget().read(request);
  const chunk = Buffer.from('abc');
  request.push(chunk);
  await new Promise(setImmediate);
  chunk.fill(0);
  request.push(null);
  await expect(reading).resolves.toEqual({ kind: 'whole', bytes: Buffer.from('abc') });
});
