/**
 * Load at a constant rate, whatever the answers do: `open-loop.ts RATE SECONDS CONNECTIONS`, and the target in the
 * environment. autocannon sends its rate in one go at the start of each second, and wrk has none; so this one.
 *
 * Requests fall due in step with the clock and leave in batches, about each millisecond. Each latency counts from
 * when its request was due, not from when a connection was free for it: a server that stalls cannot hide the
 * requests that it kept from being sent (coordinated omission). Only its first millisecond of lateness is
 * forgiven, which is this process's own timer.
 */
import { connect, type Socket } from 'node:net';

const [, , rateText = '', secondsText = '', connectionsText = ''] = process.argv;
const rate = Number(rateText);
const seconds = Number(secondsText);
const { BENCH_PORT, BENCH_URL = '', BENCH_AUTHORITY = '', BENCH_ANSWER = '' } = process.env;
const decided = process.env['BENCH_DECIDED'] === '1';
const bytes = Buffer.from(`GET ${BENCH_URL} HTTP/1.1\r\nhost: ${BENCH_AUTHORITY}\r\n\r\n`, 'latin1');
/** The first part of the time fills queues and warms up; only what comes due after it counts. */
const warmPart = 0.25;
/** Past this much work undone the rate cannot be held, and waiting for the rest tells nothing more. */
const backlogMax = 200_000;
/** For what is under way at the end. */
const graceMs = 2_000;

type Caller = { socket: Socket; dueMs: number; text: string };
const free: Caller[] = [];
const waiting: number[] = [];
let waitingFrom = 0;
let wrong = 0;
let open = 0;
let due = 0;
const tookMs: number[] = [];
let lastAnswerMs = 0;
/** Set when every connection is open. */
let startMs = 0;
let countFromMs = 0;
let endMs = 0;

function send(caller: Caller, dueMs: number): void {
  caller.dueMs = dueMs;
  caller.text = '';
  open += 1;
  caller.socket.write(bytes);
}

function answered(caller: Caller): void {
  const nowMs = performance.now();
  lastAnswerMs = nowMs;
  open -= 1;
  const named = /\r\nx-sallyport-decision: dec_/i.test(caller.text);
  if (
    !caller.text.startsWith('HTTP/1.1 200 ') ||
    !caller.text.endsWith(`\r\n\r\n${BENCH_ANSWER}`) ||
    named !== decided
  )
    wrong += 1;
  if (caller.dueMs >= countFromMs) tookMs.push(nowMs - caller.dueMs);
  const next = waiting[waitingFrom];
  if (next === undefined) free.push(caller);
  else {
    waitingFrom += 1;
    send(caller, next);
  }
}

function listen(caller: Caller): void {
  caller.socket.on('data', (chunk: Buffer) => {
    caller.text += chunk.toString('latin1');
    const headEnd = caller.text.indexOf('\r\n\r\n');
    if (headEnd === -1) return;
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(caller.text)?.[1] ?? 0);
    if (caller.text.length >= headEnd + 4 + length) answered(caller);
  });
  const broken = (): void => {
    throw new Error('a connection was closed while the load ran');
  };
  caller.socket.on('error', broken);
  caller.socket.on('close', broken);
}

for (let index = 0; index < Number(connectionsText); index += 1) {
  const socket = connect(Number(BENCH_PORT), '127.0.0.1');
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  socket.setNoDelay(true);
  const caller: Caller = { socket, dueMs: 0, text: '' };
  listen(caller);
  free.push(caller);
}

const tell = (): void => {
  tookMs.sort((a, b) => a - b);
  const at = (part: number): number => Math.round((tookMs[Math.floor(tookMs.length * part)] ?? 0) * 1_000);
  const told = {
    requests: tookMs.length,
    // What was answered in the time in which it fell due: below the offered rate where that cannot be held.
    rps: tookMs.length / ((Math.max(endMs, lastAnswerMs) - countFromMs) / 1_000),
    wrong,
    backlog: waiting.length - waitingFrom + open,
    p50_us: at(0.5),
    p99_us: at(0.99),
    p999_us: at(0.999),
  };
  process.stdout.write(`RESULT ${JSON.stringify(told)}\n`, () => process.exit(0));
};

const timerMs = 1;
const tick = (): void => {
  const nowMs = performance.now();
  const shouldBe = Math.floor(((Math.min(nowMs, endMs) - startMs) * rate) / 1_000);
  while (due < shouldBe) {
    due += 1;
    const dueMs = Math.min(nowMs, startMs + (due * 1_000) / rate + timerMs);
    const caller = free.pop();
    if (caller === undefined) waiting.push(dueMs);
    else send(caller, dueMs);
  }
  const backlog = waiting.length - waitingFrom;
  const isDone = nowMs >= endMs && (open + backlog === 0 || nowMs > endMs + graceMs);
  if (isDone || backlog >= backlogMax) tell();
  else setTimeout(tick, timerMs);
};

startMs = performance.now();
countFromMs = startMs + seconds * 1_000 * warmPart;
endMs = startMs + seconds * 1_000;
tick();
