/**
 * The embedded plane's own access log: the same lines as Envoy's (`envoy/access-log.ts`), which the same ledger
 * reads. A stream begins with the check that let it pass. Its last line is written once it is known both that it
 * is over and whether anything left; each line is in the kernel's hands at once, so that a kill loses none.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import path from 'node:path';
import type { Duplex } from 'node:stream';
import { limits } from '../../config/limits.ts';
import type { PlaneDeps } from '../../envoy/data-plane.ts';
import { keepBounded } from '../../envoy/log-rotation.ts';
import type { Checker } from '../../ext-authz/checker.ts';
import { ensurePrivateDirectory } from '../../filters/common/private-files.ts';
import type { Allow, Decision } from '../../filters/decision.ts';
import type { Call } from '../../filters/facts.ts';
import type { Response } from './headers.ts';

export const embeddedLogFile = (stateDir: string): string => path.join(stateDir, 'embedded', 'access.jsonl');

export type EmbeddedLedger = Readonly<{
  /** The checker that the plane asks: what it lets pass is a stream from then on. */
  checker: Checker;
  /** The stream of this request ends with its answer, or with the socket that it was upgraded to. */
  carries(decision: Allow, response: Response, upgraded: Duplex | undefined): void;
  /** Body bytes that passed, from the agent and to it. */
  moved(decision: Allow, bytesIn: number, bytesOut: number): void;
  /** Two connections are one: what passes is what the destination's side counts. */
  joined(decision: Allow, upstream: Duplex): void;
  close(): void;
}>;

type Stream = {
  readonly call: Call;
  readonly decision: Allow;
  /** Of the first bytes of an unread tunnel; empty otherwise. */
  inner: string;
  readonly startedMs: number;
  readonly at: string;
  bytesIn: number;
  bytesOut: number;
  upstream: Duplex | undefined;
  response: Response | undefined;
  outcome: 'Sent' | 'NotSent' | undefined;
  isOver: boolean;
};

const ended = { request: 'DownstreamEnd', tunnel: 'TcpConnectionEnd' } as const;
const goesOn = { request: 'DownstreamPeriodic', tunnel: 'TcpPeriodic' } as const;

/** Lines that cannot be written wait, up to this many bytes, while the disk is full and nothing new is let pass. */
const waitingBytesMax = 1024 * 1024;

export function openEmbeddedLedger({ stateDir, clock, log, ledger, checker }: PlaneDeps): EmbeddedLedger {
  const file = embeddedLogFile(stateDir);
  ensurePrivateDirectory(path.dirname(file));
  const epoch = randomBytes(6).toString('hex');
  ledger.began(epoch);
  let fd = openSync(file, 'a', 0o600);
  let waiting = Buffer.alloc(0);
  /** Last lines of a stream among those that wait. */
  let endsWaiting = 0;
  const streams = new Map<string, Stream>();
  /** Of a connection whose CONNECT was let pass: its first bytes are checked again, as part of it. */
  const tunnels = new Map<string, Stream>();

  const flush = (): void => {
    try {
      while (waiting.length > 0) waiting = waiting.subarray(writeSync(fd, waiting));
      endsWaiting = 0;
    } catch (err) {
      if (waiting.length <= waitingBytesMax) return;
      log.error({ err, bytes: waiting.length }, 'lines of the ledger are lost: they cannot be written');
      if (endsWaiting > 0) ledger.lost(endsWaiting);
      waiting = Buffer.alloc(0);
      endsWaiting = 0;
    }
  };

  /**
   * Its keys are sorted, as Envoy sorts them: a cut line is told from the next by how a line begins. What a client
   * can make long is cut as Envoy cuts it, so that the ledger can read every line.
   */
  const lineOf = (stream: Stream, final: boolean): Record<string, unknown> => {
    const { call, decision, response, upstream } = stream;
    const isTunnel = call.stage !== 'request';
    const { pin } = decision;
    const authority = call.authority.slice(0, limits.ledgerAuthorityCharsMax);
    const [bytesIn, bytesOut] =
      upstream instanceof Socket
        ? [upstream.bytesWritten, upstream.bytesRead]
        : [stream.bytesIn, stream.bytesOut];
    return {
      at: stream.at,
      ...(isTunnel ? {} : { authority }),
      bytes_in: bytesIn,
      bytes_out: bytesOut,
      ...(isTunnel ? { connect: authority, connect_decision: decision.id } : {}),
      connection: `${epoch}-${call.connection.connectionId}.${decision.id}`,
      ...(isTunnel ? (stream.inner === '' ? {} : { decision: stream.inner }) : { decision: decision.id }),
      duration_ms: Math.round(clock.monotonicMs() - stream.startedMs),
      ...(decision.hold === undefined ? {} : { hold: decision.hold }),
      ...(isTunnel
        ? {}
        : {
            method: call.method.slice(0, limits.ledgerMethodCharsMax),
            path: call.path.split('?', 1)[0]?.slice(0, limits.ledgerPathCharsMax),
          }),
      stage: isTunnel
        ? stream.inner === ''
          ? 'tunnel'
          : 'opaque'
        : call.scheme === 'https'
          ? 'mitm'
          : 'explicit',
      ...(response?.headersSent === true ? { status: response.statusCode } : {}),
      type: (final ? ended : goesOn)[isTunnel ? 'tunnel' : 'request'],
      ...(stream.outcome === 'Sent' && pin !== undefined ? { upstream: `${pin.address}:${pin.port}` } : {}),
    };
  };

  const write = (stream: Stream, final: boolean): void => {
    const line = Buffer.from(`${JSON.stringify(lineOf(stream, final))}\n`, 'utf8');
    waiting = waiting.length === 0 ? line : Buffer.concat([waiting, line]);
    if (final) endsWaiting += 1;
    flush();
  };

  const endIfKnown = (stream: Stream): void => {
    if (stream.outcome === undefined || !(stream.isOver || stream.outcome === 'NotSent')) return;
    if (!streams.delete(stream.decision.id)) return;
    tunnels.delete(stream.call.connection.connectionId);
    write(stream, true);
  };
  const over = (stream: Stream): void => {
    stream.isOver = true;
    endIfKnown(stream);
  };

  const begin = (call: Call, decision: Decision, gone: AbortSignal): void => {
    if (decision.kind !== 'Allow' || decision.pin === undefined) return;
    const around = call.stage === 'tunnel' ? tunnels.get(call.connection.connectionId) : undefined;
    if (around !== undefined) {
      around.inner = decision.id;
      return;
    }
    const stream: Stream = {
      ...{ call, decision, inner: '', bytesOut: 0, upstream: undefined, response: undefined },
      startedMs: clock.monotonicMs(),
      at: `${(clock.wallMs() / 1_000).toFixed(6)}000`,
      bytesIn: call.body.kind === 'whole' ? call.body.bytes.byteLength : 0,
      ...{ outcome: undefined, isOver: false },
    };
    streams.set(decision.id, stream);
    if (call.stage === 'request') return;
    tunnels.set(call.connection.connectionId, stream);
    // The tunnel is over once its client is gone.
    if (gone.aborted) over(stream);
    else gone.addEventListener('abort', () => over(stream), { once: true });
  };

  const tell = setInterval(() => {
    for (const stream of streams.values())
      if (clock.monotonicMs() - stream.startedMs >= limits.ledgerInterimMs) write(stream, false);
    flush();
  }, limits.ledgerInterimMs).unref();
  const reopen = async (): Promise<void> => {
    closeSync(fd);
    fd = openSync(file, 'a', 0o600);
  };
  const mayForget = (name: string): boolean => ledger.hasRead(name);
  const unbind = keepBounded([file], { reopen, mayForget }, log);

  return {
    checker: {
      ...checker,
      check: async (call, signal) => {
        const decision = await checker.check(call, signal);
        begin(call, decision, signal);
        return decision;
      },
      settle: (decision, outcome) => {
        const stream = streams.get(decision.id);
        if (stream !== undefined) {
          stream.outcome ??= outcome;
          endIfKnown(stream);
        }
        checker.settle(decision, outcome);
      },
    },
    carries: (decision, response, upgraded) => {
      const stream = streams.get(decision.id);
      if (stream === undefined) return;
      stream.response = response;
      const end: Readonly<{ once(event: 'close', listener: () => void): unknown }> = upgraded ?? response;
      end.once('close', () => over(stream));
    },
    moved: (decision, bytesIn, bytesOut) => {
      const stream = streams.get(decision.id);
      if (stream === undefined) return;
      stream.bytesIn += bytesIn;
      stream.bytesOut += bytesOut;
    },
    joined: (decision, upstream) => {
      const stream = streams.get(decision.id);
      if (stream !== undefined) stream.upstream = upstream;
    },
    close: () => {
      clearInterval(tell);
      unbind();
      // Of the others nobody knows whether they left: the ledger says so.
      for (const stream of [...streams.values()]) over(stream);
      flush();
      closeSync(fd);
      ledger.ended(epoch);
    },
  };
}
