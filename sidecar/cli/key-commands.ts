/** The commands about keys. */
import type { Command } from 'commander';
import type { Flags } from './program.ts';

type Add = (name: string, summary: string, of?: Command) => Command;

const flagsOf = <T extends object>(command: Command): T & Flags => command.optsWithGlobals<T & Flags>();

export function keyCommands(add: Add, exit: (code: number) => void): void {
  const keys = add('keys', 'what this sidecar signs with, sealed at rest');
  add('list', 'every key with version, state and what seals it', keys).action(
    async (_options, command: Command) => {
      const { list } = await import('./commands/keys.ts');
      exit(list(flagsOf(command)));
    },
  );
  add('rotate', 'a new key beside the old one, which ends after keys.overlap_ms', keys)
    .argument('<name>', 'authority, log or witness')
    .option('--now', 'the old one is trusted no longer, as after a theft')
    .option('--by <person>', 'who asks for it (default: the user who calls this)')
    .action(async (name: string, _options, command: Command) => {
      const { rotate } = await import('./commands/keys.ts');
      exit(await rotate(name, flagsOf<{ now?: boolean; by?: string }>(command)));
    });
  add(
    'rewrap',
    'seal every key anew: by a new key-encryption key, or by the one that the settings name now',
    keys,
  )
    .option('--from-file <file>', 'where the key-encryption key was before')
    .option('--from-command <json>', 'the program that gave it before, as a JSON list of its words')
    .addHelpText(
      'after',
      `
Examples:
  sallyport keys rewrap                           a new key-encryption key in its file
  sallyport keys rewrap --from-file OLD           keys.kek_file or keys.kek_command has changed
  sallyport keys rewrap --from-command '["vault","read","-field=kek","secret/sallyport"]'`,
    )
    .action(async (_options, command: Command) => {
      const { rewrap } = await import('./commands/keys.ts');
      exit(await rewrap(flagsOf<{ fromFile?: string; fromCommand?: string }>(command)));
    });
}
