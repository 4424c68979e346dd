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

/** Commands stand in backticks in errors and catalogue, as the program is called; a person is shown what they type. */
export const asTyped = (text: string): string => text.replaceAll('`sallyport ', `\`${invocation} `);
