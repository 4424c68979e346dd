#!/usr/bin/env node
/** `sallyport`: the command line. Exit status 0 done, 1 refused or failed, 2 wrong usage; `run` gives its command's. */
import { CommanderError } from 'commander';
import { SallyportError } from '../../config/errors.ts';
import { invocation } from '../invocation.ts';
import { CommandFailure, createOutput, exitCodes, failureOf, printableLines, watchOutput } from './output.ts';
import { createProgram } from './program.ts';

/** Known before parsing, so that a usage error is told in the form that was asked for. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return (end === -1 ? args : args.slice(0, end)).includes('--json');
}

function tell(thrown: unknown, json: boolean): number {
  const output = createOutput(json);
  if (thrown instanceof CommanderError) {
    const isUsage = thrown.exitCode !== 0;
    // Commander has written its own words to standard error.
    if (isUsage)
      output.value({
        error: {
          code: 'Usage',
          message: thrown.message.replace(/^error: /, ''),
          next: `${invocation} --help`,
        },
      });
    return isUsage ? exitCodes.usage : exitCodes.ok;
  }
  const failure =
    thrown instanceof SallyportError
      ? failureOf(thrown)
      : thrown instanceof CommandFailure
        ? thrown
        : new CommandFailure(
            `sallyport failed: ${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}`,
            'This is a fault of sallyport; please report it with the lines above.',
          );
  const code = 'code' in failure && typeof failure.code === 'string' ? failure.code : 'Failed';
  output.value({ error: { code, message: failure.message, next: failure.next } });
  if (!json) {
    output.note(`sallyport: ${printableLines(failure.message)}`);
    if (failure.next !== '') output.note(`  ${printableLines(failure.next)}`);
  }
  return failure.exitCode;
}

async function main(args: readonly string[]): Promise<void> {
  const json = wantsJson(args);
  try {
    await createProgram((code) => {
      process.exitCode = code;
    }).parseAsync(args, { from: 'user' });
  } catch (thrown) {
    process.exitCode = tell(thrown, json);
  }
}

watchOutput();
await main(process.argv.slice(2));
