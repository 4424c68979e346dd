/** The words that start this command line as its user did: what every hint of ours tells them to type. */
export function invocationOf(env: Readonly<Record<string, string | undefined>>): string {
  // Only the checkout's own script: somebody else's `npm start` starts something else.
  if (env['npm_package_name'] === 'sallyport' && env['npm_lifecycle_event'] === 'start')
    return 'npm start --';
  return env['npm_lifecycle_event'] === 'npx' ? 'npx sallyport' : 'sallyport';
}

export const invocation = invocationOf(process.env);

/** A command of ours in full: `holds list` as `npm start -- holds list --state-dir /srv/s`. */
export type CommandLine = (words: string) => string;

/** @param where options that lead another call to this sidecar: ` --state-dir DIR`, or empty. */
export const commandLineTo =
  (where: string): CommandLine =>
  (words) =>
    `${invocation} ${words}${where}`;

let hintsWhere = '';

/** Once a command knows which sidecar it is about, its hints lead to that one: ` --state-dir DIR`, or empty. */
export function leadHintsTo(where: string): void {
  hintsWhere = where;
}

/** These are about a policy file, and take no directories. */
const aboutNoSidecar = /^(?:check|explain|test|schema)\b/;

/** Commands stand in backticks in errors and catalogue, as the program is called; a person is shown what they type. */
export const asTyped = (text: string): string =>
  text.replace(
    /`sallyport ([^`]*)`/g,
    (_all, words: string) => `\`${invocation} ${words}${aboutNoSidecar.test(words) ? '' : hintsWhere}\``,
  );
