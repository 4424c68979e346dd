/** `sallyport explain`: which rule decides, and why each other one does not. */
import { readFileSync } from 'node:fs';
import { SallyportError } from '../../../config/errors.ts';
import { limits } from '../../../config/limits.ts';
import { printable } from '../../../filters/common/printable.ts';
import { type ExplainReport, explain } from '../../explain.ts';
import { CommandFailure, createOutput, duration, exitCodes, type Output, table } from '../output.ts';
import type { Flags } from '../program.ts';
import { readBounded, validPolicy } from './check.ts';

type Options = Flags & Readonly<{ agent?: string; header: readonly string[]; bodyFile?: string }>;

function headersOf(lines: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const match = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*)$/.exec(line);
    if (match === null)
      throw new CommandFailure(
        `--header ${JSON.stringify(line)} is not \`name: value\``,
        "Write it as --header 'content-type: application/json'.",
        exitCodes.usage,
      );
    const name = (match[1] ?? '').toLowerCase();
    headers[name] = headers[name] === undefined ? (match[2] ?? '') : `${headers[name]},${match[2] ?? ''}`;
  }
  return headers;
}

const bodyOf = (file: string): string =>
  file === '-' ? readFileSync(0, 'utf8') : readBounded(file, 'body', limits.inspectedBodyBytesMax);

const usage = (message: string, next: string): CommandFailure =>
  new CommandFailure(message, next, exitCodes.usage);

function assertMethod(method: string): void {
  if (!/^[A-Z][A-Z-]{0,31}$/.test(method))
    throw usage(
      `${JSON.stringify(method)} is not an HTTP method`,
      'Write it as `sallyport explain POLICY METHOD URL`, such as GET https://api.example.org/v1.',
    );
}

export function explainRequest(file: string, method: string, url: string, options: Options): number {
  const output = createOutput(options.json === true);
  const asked = {
    method: method.toUpperCase(),
    url,
    headers: headersOf(options.header),
    ...(options.agent === undefined ? {} : { agent: options.agent }),
    ...(options.bodyFile === undefined ? {} : { body: bodyOf(options.bodyFile) }),
  };
  assertMethod(asked.method);
  const policy = validPolicy(file);
  let report: ExplainReport;
  try {
    report = explain(policy, asked, Date.now());
  } catch (thrown) {
    // What was asked is no request at all, or one of nobody: there is nothing to decide.
    if (thrown instanceof SallyportError && thrown.code === 'RequestMalformed')
      throw usage(thrown.message, '`sallyport explain --help` shows how it is asked.');
    throw thrown;
  }
  output.value(report);
  show(report, output);
  return exitCodes.ok;
}

function leasableLine({ lease, destination }: ExplainReport): string | undefined {
  if (lease === undefined || destination === undefined) return undefined;
  if ('why' in lease) return `leasable: no: ${lease.why}`;
  const { method, host, port } = destination;
  return `leasable: yes, ${method} ${host}:${port} ${lease.exact ? 'only' : 'under'} ${lease.prefix}`;
}

const words = { Allow: 'ALLOW', Deny: 'DENY', RequiresOversight: 'HOLD', Intercept: 'INTERCEPT' } as const;

function show(report: ExplainReport, output: Output): void {
  const { destination } = report;
  const by = report.rule === undefined ? '' : ` by rule ${report.rule}`;
  output.line(
    `${words[report.decision]}${by}${report.code === undefined ? '' : ` (${report.code})`}${report.reason === '' ? '' : `: ${printable(report.reason)}`}`,
  );
  if (destination !== undefined)
    output.line(
      printable(
        `as agent ${report.agent}: ${destination.method} ${destination.scheme}://${destination.host}:${destination.port}${destination.path}`,
        2_000,
      ),
    );
  if (report.approvers.length > 0) output.line(`who decides: ${printable(report.approvers.join(', '))}`);
  for (const quota of report.quotas)
    output.line(`paid from quota ${quota.name}: ${quota.limit} in ${duration(quota.window_ms)}`);
  const leasable = leasableLine(report);
  if (leasable !== undefined) output.line(printable(leasable, 2_000));
  for (const shadow of report.shadow) output.line(`in shadow, ${shadow.rule} would ${shadow.would}`);
  if (report.rules.length > 0) output.line();
  for (const row of table(
    report.rules.map((rule) => [
      rule.decided ? '→' : rule.matched ? '·' : ' ',
      rule.rule,
      rule.mode === 'shadow' ? `${rule.outcome} (shadow)` : rule.outcome,
      rule.decided ? 'decides' : printable(rule.why),
    ]),
  ))
    output.line(row);
  output.line();
  output.line('Names are not resolved here: an address that is not public is refused when the call is made.');
}
