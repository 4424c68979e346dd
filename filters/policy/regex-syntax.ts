/**
 * The syntax of `matches`: literals, `.`, classes, `\d \w \s \b` and their opposites, `^ $`, groups,
 * alternatives, `* + ? {n} {n,} {n,m}` (lazy forms match the same texts) and a leading `(?i)` for ASCII.
 */
import { limits } from '../../config/limits.ts';

export type RegexNode =
  | Readonly<{ kind: 'empty' }>
  | Readonly<{ kind: 'character'; accepts: (code: number) => boolean }>
  | Readonly<{ kind: 'assert'; what: 'start' | 'end' | 'boundary' | 'inside' }>
  | Readonly<{ kind: 'sequence'; parts: readonly RegexNode[] }>
  | Readonly<{ kind: 'choice'; options: readonly RegexNode[] }>
  | Readonly<{ kind: 'repeat'; part: RegexNode; min: number; max: number }>;

type Test = (code: number) => boolean;

const within =
  (low: number, high: number): Test =>
  (code) =>
    code >= low && code <= high;
const anyOf =
  (tests: readonly Test[]): Test =>
  (code) =>
    tests.some((test) => test(code));
const not =
  (test: Test): Test =>
  (code) =>
    !test(code);

const digit = within(48, 57);
const word = anyOf([digit, within(65, 90), within(97, 122), (code) => code === 95]);
const space: Test = (code) => code === 9 || code === 10 || code === 12 || code === 13 || code === 32;
const classes: Readonly<Record<string, Test>> = {
  d: digit,
  D: not(digit),
  w: word,
  W: not(word),
  s: space,
  S: not(space),
};
const controls: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, f: 12, v: 11, a: 7 };

export function parseRegex(pattern: string): RegexNode {
  const foldCase = pattern.startsWith('(?i)');
  const characters = [...(foldCase ? pattern.slice(4) : pattern)];
  let at = 0;

  const fail = (expected: string): never => {
    throw new Error(`a regular expression with ${expected} at character ${at + 1}`);
  };
  const literal = (code: number): Test => {
    if (!foldCase) return (found) => found === code;
    const lower = within(65, 90)(code) ? code + 32 : code;
    return (found) => (within(65, 90)(found) ? found + 32 : found) === lower;
  };
  const hex = (): number => {
    const braced = characters[at] === '{';
    const end = braced ? characters.indexOf('}', at) : at + 2;
    const digits = characters.slice(braced ? at + 1 : at, end).join('');
    if (end < 0 || !/^[0-9A-Fa-f]{1,6}$/.test(digits)) fail('hex digits after \\x');
    at = braced ? end + 1 : end;
    return Number.parseInt(digits, 16);
  };
  /** After a backslash: a class, or one character's code. */
  const readEscape = (): Test | number => {
    const character = characters[at] ?? fail('something after the backslash');
    at += 1;
    const known = classes[character];
    if (known !== undefined) return known;
    const control = controls[character];
    if (control !== undefined) return control;
    if (character === 'x') return hex();
    if (/[A-Za-z0-9]/.test(character)) {
      at -= 1;
      fail('an escape that RE2 knows and no back reference');
    }
    return character.codePointAt(0) ?? 0;
  };

  const characterClass = (): RegexNode => {
    const tests: Test[] = [];
    const negated = characters[at] === '^';
    if (negated) at += 1;
    let first = true;
    for (;;) {
      const character = characters[at] ?? fail('a closing bracket');
      at += 1;
      if (character === ']' && !first) break;
      first = false;
      if (character === '[' && characters[at] === ':') fail('\\d, \\w or \\s in place of a named class');
      const low = character === '\\' ? readEscape() : (character.codePointAt(0) ?? 0);
      if (typeof low !== 'number') {
        tests.push(low);
        continue;
      }
      if (characters[at] !== '-' || characters[at + 1] === ']' || characters[at + 1] === undefined) {
        tests.push(literal(low));
        continue;
      }
      at += 1;
      const next = characters[at] ?? fail('the end of a range');
      at += 1;
      const high = next === '\\' ? readEscape() : (next.codePointAt(0) ?? 0);
      if (typeof high !== 'number' || high < low) fail('a range from lower to higher');
      else if (foldCase) {
        const range = within(low, high);
        tests.push(
          (code) =>
            range(code) ||
            (within(65, 90)(code) && range(code + 32)) ||
            (within(97, 122)(code) && range(code - 32)),
        );
      } else tests.push(within(low, high));
    }
    return { kind: 'character', accepts: negated ? not(anyOf(tests)) : anyOf(tests) };
  };

  const atom = (depth: number): RegexNode => {
    const character = characters[at] ?? fail('an expression');
    at += 1;
    switch (character) {
      case '.':
        return { kind: 'character', accepts: (code) => code !== 10 };
      case '^':
        return { kind: 'assert', what: 'start' };
      case '$':
        return { kind: 'assert', what: 'end' };
      case '[':
        return characterClass();
      case '(': {
        if (characters[at] === '?') {
          if (characters[at + 1] !== ':') fail('only (…) and (?:…) as groups, and (?i) at the start');
          at += 2;
        }
        const inner = choice(depth + 1);
        if (characters[at] !== ')') fail('a closing parenthesis');
        at += 1;
        return inner;
      }
      case '\\': {
        if (characters[at] === 'b' || characters[at] === 'B') {
          at += 1;
          return { kind: 'assert', what: characters[at - 1] === 'b' ? 'boundary' : 'inside' };
        }
        const escaped = readEscape();
        return { kind: 'character', accepts: typeof escaped === 'number' ? literal(escaped) : escaped };
      }
      case '*':
      case '+':
      case '?':
        at -= 1;
        return fail('something to repeat before the sign');
      default:
        return { kind: 'character', accepts: literal(character.codePointAt(0) ?? 0) };
    }
  };

  const repetition = (): [number, number] | undefined => {
    const character = characters[at];
    const simple = { '*': [0, Infinity], '+': [1, Infinity], '?': [0, 1] } as const;
    if (character === '*' || character === '+' || character === '?') {
      at += 1;
      return [...simple[character]];
    }
    if (character !== '{') return undefined;
    const end = characters.indexOf('}', at);
    const match = /^(\d{1,4})(?:(,)(\d{1,4})?)?$/.exec(
      characters.slice(at + 1, end < 0 ? at + 1 : end).join(''),
    );
    // RE2 reads a brace that counts nothing as the character itself.
    if (match === null) return undefined;
    const min = Number(match[1]);
    const max =
      match[2] === undefined ? min : match[3] === undefined ? Number.POSITIVE_INFINITY : Number(match[3]);
    if (
      min > limits.celRegexRepeatMax ||
      (max !== Number.POSITIVE_INFINITY && (max > limits.celRegexRepeatMax || max < min))
    )
      fail(`counts in order and of at most ${limits.celRegexRepeatMax}`);
    at = end + 1;
    return [min, max];
  };

  const sequence = (depth: number): RegexNode => {
    const parts: RegexNode[] = [];
    while (at < characters.length && characters[at] !== '|' && characters[at] !== ')') {
      const part = atom(depth);
      const count = repetition();
      if (count === undefined) {
        parts.push(part);
        continue;
      }
      if (characters[at] === '?') at += 1;
      if (/^[*+?]$/.test(characters[at] ?? '')) fail('one repetition at a time');
      parts.push({ kind: 'repeat', part, min: count[0], max: count[1] });
    }
    return { kind: 'sequence', parts };
  };

  const choice = (depth: number): RegexNode => {
    if (depth > limits.celRegexDepthMax) fail(`groups nested at most ${limits.celRegexDepthMax} deep`);
    const options = [sequence(depth)];
    while (characters[at] === '|') {
      at += 1;
      options.push(sequence(depth));
    }
    const [only] = options;
    return options.length === 1 && only !== undefined ? only : { kind: 'choice', options };
  };

  const root = choice(0);
  if (at < characters.length) fail('no closing parenthesis that was not opened');
  return root;
}
