import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SallyportError } from '../../../config/errors.ts';
import { backup, restore } from '../../../filters/common/backup.ts';
import { openDatabase } from '../../../filters/common/database.ts';
import { openJournal } from '../../../filters/common/journal-file.ts';
import { openQuotaStore } from '../../../filters/quota/sqlite.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { someHoldStore } from '../../support/hold-store.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { someHold } from '../../support/some-hold.ts';
import { someDecision } from '../../support/some-record.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const debit = { quota: 'q', key: 'k', limit: 9, windowMs: 60_000, kind: 'quota' } as const;

function openState(stateDir: string) {
  const clock = movingClock();
  const holdsDb = openDatabase(join(stateDir, 'holds.db'));
  const quotasDb = openDatabase(join(stateDir, 'quotas.db'), { synchronous: 'NORMAL' });
  const journal = openJournal(stateDir, { clock });
  return {
    holds: someHoldStore(holdsDb, clock),
    quotas: openQuotaStore(quotasDb, clock),
    journal,
    close: () => {
      journal.close();
      holdsDb.close();
      quotasDb.close();
    },
  };
}

const modes = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, withFileTypes: true }).map((entry) => {
    const mode = statSync(join(entry.parentPath, entry.name)).mode & 0o777;
    return `${entry.isDirectory() ? 'directory' : 'file'} ${mode.toString(8)}`;
  });

async function refusalOf(action: Promise<unknown>): Promise<string> {
  try {
    await action;
    return 'none';
  } catch (error) {
    if (error instanceof SallyportError) return error.code;
    throw error;
  }
}

describe('backup and restore', () => {
  it('bring back everything that was answered, taken while the sidecar runs', async () => {
    const base = temporaryDirectory();
    const stateDir = join(base, 'state');
    const state = openState(stateDir);
    const { id } = state.holds.open(someHold());
    state.holds.approve(id, 'dana', 'go');
    state.quotas.debit([debit]);
    state.journal.append(someDecision());
    mkdirSync(join(stateDir, 'authority'));
    writeFileSync(join(stateDir, 'authority', 'ca.key'), 'secret', { mode: 0o640 });
    writeFileSync(join(stateDir, 'empty'), '');
    mkdirSync(join(stateDir, 'run'));
    writeFileSync(join(stateDir, 'run', 'envoy.json'), '{}');
    symlinkSync('/etc/hostname', join(stateDir, 'link'));

    const file = join(base, 'backup');
    const summary = await backup(stateDir, file);
    expect(summary).toMatchObject({ files: 5, skipped: ['link'] });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(base).sort()).toEqual(['backup', 'state']);
    state.holds.consume(id);
    state.close();

    const restored = join(base, 'restored');
    expect(await restore(file, restored)).toEqual({ files: 5, bytes: summary.bytes });
    expect(readFileSync(join(restored, 'authority', 'ca.key'), 'utf8')).toBe('secret');
    expect(readdirSync(restored).sort()).toEqual(['authority', 'empty', 'holds.db', 'journal', 'quotas.db']);
    expect(new Set(modes(restored))).toEqual(new Set(['directory 700', 'file 600']));
    const again = openState(restored);
    expect(again.holds.get(id)).toMatchObject({ state: 'Approved', note: 'go' });
    expect(again.quotas.peek(debit).used).toBe(1);
    expect(again.journal.tail(9)).toEqual([someDecision()]);
    again.close();
  });

  it('overwrite nothing', async () => {
    const base = temporaryDirectory();
    const stateDir = join(base, 'state');
    mkdirSync(stateDir);
    writeFileSync(join(stateDir, 'a'), '1');
    const file = join(base, 'backup');
    await backup(stateDir, file);
    const before = readFileSync(file);
    expect(await refusalOf(backup(stateDir, file))).toBe('StateUnavailable');
    expect(readFileSync(file)).toEqual(before);
    expect(await refusalOf(backup(stateDir, join(stateDir, 'backup')))).toBe('StateUnavailable');
    expect(await refusalOf(restore(file, stateDir))).toBe('StateUnavailable');
    expect(readFileSync(join(stateDir, 'a'), 'utf8')).toBe('1');
  });

  it('say what is not there or cannot be copied', async () => {
    const base = temporaryDirectory();
    expect(await refusalOf(backup(join(base, 'none'), join(base, 'backup')))).toBe('StateUnavailable');
    expect(await refusalOf(restore(join(base, 'none'), join(base, 'state')))).toBe('StateUnavailable');
    const stateDir = join(base, 'damaged');
    mkdirSync(stateDir);
    writeFileSync(join(stateDir, 'holds.db'), 'no database'.repeat(500));
    expect(await refusalOf(backup(stateDir, join(base, 'backup')))).toBe('StateUnavailable');
    expect(existsSync(join(base, 'backup'))).toBe(false);
  });
});

/** An archive of these lines and bytes with a checksum that agrees. */
function archiveOf(parts: readonly (string | Uint8Array)[], files: number): Buffer {
  const content = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const sha256 = createHash('sha256').update(content).digest('hex');
  return gzipSync(Buffer.concat([content, Buffer.from(`${JSON.stringify({ end: true, files, sha256 })}\n`)]));
}
const header = '{"format":"sallyport backup","version":1,"at_ms":0}\n';

describe('restore', () => {
  const restoring = async (bytes: Uint8Array) => {
    const base = temporaryDirectory();
    writeFileSync(join(base, 'backup'), bytes);
    const stateDir = join(base, 'state');
    const refusal = await refusalOf(restore(join(base, 'backup'), stateDir));
    return { refusal, files: readdirSync(stateDir), around: readdirSync(base).sort() };
  };

  it('reads the format as it is drawn', async () => {
    const bytes = archiveOf([header, '{"path":"d/a","bytes":3}\n', 'a\nb', '{"path":"e","bytes":0}\n'], 2);
    expect(await restoring(bytes)).toMatchObject({ refusal: 'none', files: ['d', 'e'] });
  });

  it.each([
    ['a path to above', '{"path":"../x","bytes":1}\nx'],
    ['a path through above', '{"path":"a/../../x","bytes":1}\nx'],
    ['an absolute path', '{"path":"/tmp/x","bytes":1}\nx'],
    ['an empty path', '{"path":"","bytes":1}\nx'],
    ['a path with a backslash', '{"path":"a\\\\b","bytes":1}\nx'],
    ['a path with a NUL', '{"path":"a\\u0000b","bytes":1}\nx'],
    ['a length below nothing', '{"path":"x","bytes":-1}\nx'],
    ['a length past the limit', '{"path":"x","bytes":1e15}\nx'],
    ['a length past the end', '{"path":"x","bytes":100000}\nx'],
    ['what no backup holds: a run directory', '{"path":"run/x","bytes":1}\nx'],
    ['what no backup holds: a lock', '{"path":"sidecar.lock","bytes":1}\nx'],
    ['a line that is no JSON', '{"path":\n'],
    ['a line without end', 'x'.repeat(100_000)],
  ])('refuses %s and leaves nothing', async (_what, part) => {
    const { refusal, files, around } = await restoring(archiveOf([header, part], 1));
    expect([refusal, files, around]).toEqual(['RequestMalformed', [], ['backup', 'state']]);
  });

  it('leaves what is no state where it is, and refuses where any state is', async () => {
    const base = temporaryDirectory();
    const file = join(base, 'backup');
    writeFileSync(file, archiveOf([header, '{"path":"a","bytes":1}\n', 'x'], 1));
    const stateDir = join(base, 'state');
    for (const name of ['run', 'tools', 'demo']) mkdirSync(join(stateDir, name), { recursive: true });
    writeFileSync(join(stateDir, 'sidecar.lock'), '');
    expect(await refusalOf(restore(file, stateDir))).toBe('none');
    expect(readdirSync(stateDir).sort()).toEqual(['a', 'demo', 'run', 'sidecar.lock', 'tools']);
    // An access log would tell what became of the holds of another state, a journal of SQLite would be rolled back.
    const other = join(base, 'other');
    mkdirSync(join(other, 'envoy'), { recursive: true });
    writeFileSync(join(other, 'holds.db-journal'), '');
    await expect(restore(file, other)).rejects.toThrow('it holds state already (envoy, holds.db-journal)');
  });

  it.each([
    ['another version', [header.replace('"version":1', '"version":2')], 0],
    ['another format', ['{"format":"tar","version":1}\n'], 0],
    ['a wrong number of files', [header], 1],
    ['a file twice', [header, '{"path":"a","bytes":0}\n{"path":"a","bytes":0}\n'], 2],
  ])('refuses %s', async (_what, parts, files) => {
    expect((await restoring(archiveOf(parts, files))).refusal).toBe('RequestMalformed');
  });

  it('refuses a backup that is damaged, cut or goes on after its end', async () => {
    const whole = archiveOf([header, '{"path":"a","bytes":5}\n', 'abcde'], 1);
    const content = gunzipSync(whole);
    const changed = Buffer.from(content);
    changed.write('X', content.indexOf('abcde'));
    for (const bytes of [
      gzipSync(changed),
      whole.subarray(0, whole.length - 12),
      gzipSync(content.subarray(0, content.length - 5)),
      gzipSync(Buffer.concat([content, Buffer.from('more')])),
      Buffer.from('no gzip at all'),
      new Uint8Array(0),
    ])
      expect(await restoring(bytes)).toMatchObject({ refusal: 'RequestMalformed', files: [] });
  });

  it('reads any bytes as a backup or refuses them, and leaves nothing then', async () => {
    const base = temporaryDirectory();
    const stateDir = join(base, 'state');
    const file = join(base, 'backup');
    const line = fc.oneof(
      fc.json().map((text) => `${text}\n`),
      fc.record({ path: fc.string(), bytes: fc.nat(9) }).map((value) => `${JSON.stringify(value)}\n`),
      fc.uint8Array({ maxLength: 9 }),
    );
    const bytes = fc.oneof(
      fc.uint8Array(),
      fc.array(line).map((parts) => archiveOf([header, ...parts], parts.length)),
    );
    await fc.assert(
      fc.asyncProperty(bytes, async (content) => {
        writeFileSync(file, content);
        const refusal = await refusalOf(restore(file, stateDir));
        expect(['none', 'RequestMalformed', 'StateUnavailable']).toContain(refusal);
        if (refusal === 'none') rmSync(stateDir, { recursive: true });
        else expect(readdirSync(stateDir)).toEqual([]);
      }),
      fuzzRuns,
    );
  });
});
