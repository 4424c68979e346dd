/** Spans where the settings want them. Without an endpoint nothing of it is loaded. */
import type { Settings } from '../config/settings.ts';
import type { JournalRecord } from '../filters/common/record.ts';
import type { Ending } from './ending.ts';
import type { ExportDeps } from './otlp.ts';

/** What takes each record that was written; undefined where nobody wants spans. */
export async function openSpans(
  settings: Settings['telemetry']['otlp'],
  deps: ExportDeps,
  ending: Ending,
): Promise<((record: JournalRecord) => void) | undefined> {
  if (settings.endpoint === '') return undefined;
  const { openSpanExport } = await import('./otlp.ts');
  const spans = openSpanExport(settings, deps);
  ending.add('spans', spans.close);
  return spans.offer;
}
