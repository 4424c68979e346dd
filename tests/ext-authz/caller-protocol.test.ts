import { describe, expect, it } from 'vitest';
import { isGrpc } from '../../ext-authz/caller-protocol.ts';

describe('a media type', () => {
  it.each([
    'application/grpc',
    'Application/gRPC',
    'application/grpc+proto',
    'application/grpc; charset=utf-8',
    'application/grpc+proto ;a=b',
  ])('%j is gRPC', (type) => {
    expect(isGrpc(type)).toBe(true);
  });

  it.each([
    undefined,
    '',
    'application/grpc-web',
    'application/grpc+',
    'application/grpc json',
    'text/application/grpc',
  ])('%j is not', (type) => {
    expect(isGrpc(type)).toBe(false);
  });
});
