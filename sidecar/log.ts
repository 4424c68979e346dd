/**
 * Logs: JSON lines, or readable ones on a terminal. One way in (redaction by field name, then by shape) and
 * one way out, so that what a log may not hold has one place to be stopped.
 */
import { type DestinationStream, type Logger, pino } from 'pino';
import type { Settings } from '../config/settings.ts';
import { printable, printableJson } from '../filters/common/printable.ts';
import { clockTime, type DecisionFields, decisionLine } from './decision-line.ts';
import { type CommandLine, commandLineTo } from './invocation.ts';
import { redact, redactLine } from './redact.ts';

export type LogTarget = Readonly<{ write(line: string): unknown; isTTY?: boolean | undefined }>;

const asRecord = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null ? { ...value } : { value };

export function createLog(
  settings: Settings['log'],
  target: LogTarget = process.stdout,
  commandLine: CommandLine = commandLineTo(''),
): Logger {
  const pretty = settings.format === 'pretty' || (settings.format === 'auto' && target.isTTY === true);
  const destination: DestinationStream = {
    write: (line) => {
      target.write(pretty ? readable(line, target.isTTY === true, commandLine) : line);
    },
  };
  const log = pino(
    {
      level: settings.level,
      base: null,
      timestamp: pino.stdTimeFunctions.epochTime,
      formatters: {
        level: (label) => ({ level: label }),
        log: (object) => asRecord(redact(object)),
      },
      hooks: { streamWrite: (line) => printableJson(redactLine(line)) },
    },
    destination,
  );
  // pino has no formatter for a child's bindings; a child inherits this method, so it holds all the way down.
  const child = log.child;
  log.child = function (this: unknown, bindings, options) {
    return Reflect.apply(child, this, [asRecord(redact(bindings)), options]);
  };
  return log;
}

const isDecision = (value: unknown): value is DecisionFields =>
  typeof value === 'object' && value !== null && 'kind' in value && 'resource' in value && 'id' in value;

/** One JSON line of pino's as a line for a person. */
function readable(line: string, colour: boolean, commandLine: CommandLine): string {
  const { time, level, msg, decision, ...rest } = asRecord(JSON.parse(line));
  const ms = typeof time === 'number' ? time : Date.now();
  if (isDecision(decision)) return `${decisionLine(ms, decision, colour, commandLine)}\n`;
  const details = Object.entries(rest).map(
    ([name, value]) =>
      `${printable(name, 64)}=${printable(typeof value === 'string' ? value : JSON.stringify(detail(value)), 400)}`,
  );
  return `${[clockTime(ms), String(level).toUpperCase(), printable(String(msg ?? ''), 1_000), ...details].join(' ')}\n`;
}

/** An error's stack has many lines: the JSON form keeps it, the readable one shows its message. */
function detail(value: unknown): unknown {
  const { stack: _stack, ...rest } = asRecord(value);
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? rest : value;
}
