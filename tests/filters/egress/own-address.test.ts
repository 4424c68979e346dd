import { networkInterfaces } from 'node:os';
import { expect, test } from 'vitest';
import { isListenerAddress, isOwnAddress } from '../../../filters/egress/own-address.ts';

test('loopback, every spelling of it, and the addresses of interfaces are this machine', () => {
  for (const address of ['127.0.0.1', '127.9.9.9', '::1', '0.0.0.0', '::', '::ffff:127.0.0.1'])
    expect(isOwnAddress(address), address).toBe(true);
  for (const { address } of Object.values(networkInterfaces()).flatMap((all) => all ?? []))
    expect(isOwnAddress(address), address).toBe(true);
  for (const address of ['192.0.2.1', '2606:4700::1111']) expect(isOwnAddress(address), address).toBe(false);
});

test('a listener on one address is reached at that one only, a listener on every address at each own one', () => {
  expect(isListenerAddress('127.0.0.1', '127.0.0.1')).toBe(true);
  expect(isListenerAddress('127.0.0.1', '127.0.0.2')).toBe(false);
  for (const host of ['0.0.0.0', '::', 'localhost']) {
    expect(isListenerAddress(host, '127.0.0.2'), host).toBe(true);
    expect(isListenerAddress(host, '192.0.2.1'), host).toBe(false);
  }
});
