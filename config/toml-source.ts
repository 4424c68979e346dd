/** TOML 1.0 to a value with the line of each key. */
import { createRequire } from 'node:module';
import { limits } from './limits.ts';
import { type FieldPath, fieldName, type Result } from './policy/issue.ts';
import { fileIssue, noPosition, type Position, printable, type Source } from './source.ts';

// Loaded for the first TOML file: most settings are YAML, or none.
const require = createRequire(import.meta.url);

export function parseToml(text: string, file: string): Result<Source> {
  const { parse, TomlError }: typeof import('smol-toml') = require('smol-toml');
  try {
    const value = parse(text, { maxDepth: limits.settingsTomlDepthMax });
    const positions = keyPositions(text);
    return {
      ok: true,
      value: {
        value,
        positionOf: (path) => {
          for (let length = path.length; length > 0; length -= 1) {
            const position = positions.get(fieldName(path.slice(0, length)));
            if (position !== undefined) return position;
          }
          return noPosition;
        },
      },
    };
  } catch (thrown) {
    if (!(thrown instanceof TomlError))
      return { ok: false, issues: [fileIssue(file, 'not valid TOML: nested too deeply')] };
    const reason = thrown.message.split('\n')[0]?.replace('Invalid TOML document: ', '') ?? '';
    const position = { line: thrown.line, column: thrown.column };
    return { ok: false, issues: [fileIssue(file, `not valid TOML: ${printable(reason, 200)}`, position)] };
  }
}

const key = String.raw`(?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*')`;
const dottedKey = String.raw`${key}(?:\s*\.\s*${key})*`;
const header = new RegExp(String.raw`^\s*\[\s*(${dottedKey})\s*\]`);
const assignment = new RegExp(String.raw`^\s*(${dottedKey})\s*=`);

/**
 * The parser keeps no positions, so keys are found line by line; the text is known to be valid. Keys inside
 * inline tables and arrays have the line of the key that holds them. A line of a multi-line string that
 * looks like a key can only add an entry that no field asks for, or lose to the first one.
 */
function keyPositions(text: string): Map<string, Position> {
  const positions = new Map<string, Position>();
  let table: string[] = [];
  const partsOf = (dotted: string): string[] =>
    [...dotted.matchAll(new RegExp(key, 'g'))].map(([part]) => part.replace(/^["']|["']$/g, ''));
  const note = (path: FieldPath, position: Position): void => {
    const name = fieldName(path);
    if (!positions.has(name)) positions.set(name, position);
  };
  for (const [index, line] of text.split('\n').entries()) {
    const position = { line: index + 1, column: line.search(/\S/) + 1 };
    const heading = header.exec(line)?.[1];
    const assigned = assignment.exec(line)?.[1];
    if (heading !== undefined) {
      table = partsOf(heading);
      note(table, position);
    } else if (assigned !== undefined) note([...table, ...partsOf(assigned)], position);
  }
  return positions;
}
