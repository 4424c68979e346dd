/** autocannon in a process of its own: `autocannon.ts CONNECTIONS SECONDS`, and the target in the environment. */
import autocannon from 'autocannon';

const [, , connections = '', seconds = ''] = process.argv;
const {
  BENCH_PORT: port,
  BENCH_URL: path = '',
  BENCH_AUTHORITY: host = '',
  BENCH_ANSWER: answer = '',
} = process.env;
const decided = process.env['BENCH_DECIDED'] === '1';
const decision = 'x-sallyport-decision';
const firstWrongCharsMax = 500;

let wrong = 0;
let firstWrong = '';
/** autocannon's own histogram has whole milliseconds only. */
const took: number[] = [];

const started = performance.now();
const instance = autocannon(
  {
    url: `http://127.0.0.1:${port}`,
    connections: Number(connections),
    duration: Number(seconds),
    requests: [
      {
        method: 'GET',
        path,
        headers: { host },
        onResponse: (status, body, _context, headers) => {
          const named = Object.keys(headers).some((name) => name.toLowerCase() === decision);
          if (status === 200 && body === answer && named === decided) return;
          wrong += 1;
          firstWrong ||= `${status} ${body}`.slice(0, firstWrongCharsMax);
        },
      },
    ],
  },
  (error, result) => {
    if (error) throw error;
    took.sort((a, b) => a - b);
    const at = (part: number): number => (took[Math.floor(took.length * part)] ?? 0) * 1_000;
    const told = {
      requests: took.length,
      seconds: (performance.now() - started) / 1_000,
      wrong,
      first_wrong: firstWrong,
      errors: result.errors + result.timeouts + result.non2xx,
      p50_us: at(0.5),
      p99_us: at(0.99),
    };
    process.stdout.write(`RESULT ${JSON.stringify(told)}\n`);
  },
);
instance.on('response', (_client: unknown, _status: number, _bytes: number, ms: number) => took.push(ms));
