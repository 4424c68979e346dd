import { describe, expect, it } from 'vitest';
import { createKnownAgent } from '../../ext-authz/known-agent.ts';
import type { UnixUsers } from '../../filters/identity/unix-users.ts';
import { someCall } from '../support/call.ts';
import { compiled } from './check-world.ts';

const policy = compiled(`
version: 1
agents: { builder: { identity: spiffe://example.org/builder, users: [1001] } }
rules:
  - { name: all, to: { hosts: [api.example] }, allow: {} }
`);
const knownBy = (users: UnixUsers): ReturnType<typeof createKnownAgent> =>
  createKnownAgent({ policy: () => policy, podAgent: '', users, planeUid: undefined });

describe('who calls, before the check asks', () => {
  it('is an agent of the policy', () => {
    expect(knownBy({ uidOf: () => 1001 })(someCall())?.name).toBe('builder');
  });

  it('is nobody where nothing proves an agent', () => {
    expect(knownBy({ uidOf: () => 1002 })(someCall())).toBeUndefined();
  });

  it('is a fault, and not nobody, where the looking broke', () => {
    const broken = (): never => {
      throw new TypeError('the table of users broke');
    };
    expect(() => knownBy({ uidOf: broken })(someCall())).toThrow('the table of users broke');
  });
});
