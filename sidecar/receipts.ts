/** A receipt for a record of the own log, with its content, where a checkpoint covers it by now. */
import path from 'node:path';
import { findById } from '../filters/audit/find.ts';
import { auditDirectory } from '../filters/audit/identity.ts';
import type { AuditLog } from '../filters/audit/log.ts';
import { encodeReceipt, makeReceipt } from '../filters/audit/receipt.ts';
import { readState } from '../filters/audit/state.ts';
import { createTileReader } from '../filters/audit/tile-reader.ts';

export async function receiptOf(
  stateDir: string,
  log: Pick<AuditLog, 'newest'>,
  id: string,
): Promise<string | undefined> {
  const directory = auditDirectory(stateDir);
  const published = log.newest();
  if (published === undefined) return undefined;
  const [found] = await findById(path.join(stateDir, 'journal'), readState(directory)?.files ?? [], id, 1);
  if (found?.index === undefined || found.index >= published.size) return undefined;
  const reader = createTileReader(directory, published.size);
  return encodeReceipt(makeReceipt(reader, published, found.index, found.placed.bytes.toString('utf8')));
}
