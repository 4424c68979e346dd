/**
 * A JSON object that was read, untrusted: each member is unknown until it is looked at. An array counts as one
 * without the members that are asked for. Undefined for any other text.
 */
export function jsonObject(text: string): Readonly<Record<string, unknown>> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  // What is not null and an object has members; what they are is not said.
  return value as Readonly<Record<string, unknown>>;
}
