/** One thing wrong with a policy or settings file, and where. */
export type Issue = Readonly<{
  /** File as given by the user. */
  file: string;
  /** 1-based; 0 where the position is unknown. */
  line: number;
  column: number;
  /** Path of the field, such as `rules[3].to.hosts[0]`; empty for the whole document. */
  field: string;
  /** What was expected, and what was found instead. */
  message: string;
}>;

/** A field's path inside the document, as zod gives it: keys and indices. */
export type FieldPath = readonly (string | number)[];

/** `rules[3].to.hosts[0]` */
export function fieldName(path: FieldPath): string {
  let text = '';
  for (const part of path) text += typeof part === 'number' ? `[${part}]` : text === '' ? part : `.${part}`;
  return text;
}

/** `policy.yaml:12:5: rules[3].when: message`; without the position where it is unknown. */
export const formatIssue = ({ file, line, column, field, message }: Issue): string =>
  `${line === 0 ? file : `${file}:${line}:${column}`}: ${field === '' ? '' : `${field}: `}${message}`;

export type Refusal = Readonly<{
  ok: false;
  issues: readonly Issue[];
  /** How many were found; absent where `issues` are all. */
  count?: number;
}>;

export type Result<T> = Readonly<{ ok: true; value: T }> | Refusal;
