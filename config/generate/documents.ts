/** Every generated document: its path from the repository's root, and its text. */
import { readFileSync } from 'node:fs';
import { errorsPage, limitsPage, metricsPage } from './catalogue-pages.ts';
import { configurationPage } from './configuration-page.ts';
import { policyJsonSchema } from './json-schema.ts';
import { policyPage } from './policy-page.ts';

export type GeneratedDocument = Readonly<{ path: string; text: string }>;

export function generatedDocuments(): readonly GeneratedDocument[] {
  const limitsSource = ['requests', 'policy', 'processes', 'state']
    .map((part) => readFileSync(new URL(`../limits-${part}.ts`, import.meta.url), 'utf8'))
    .join('');
  return [
    { path: 'docs/policy.md', text: policyPage() },
    { path: 'docs/configuration.md', text: configurationPage() },
    { path: 'docs/errors.md', text: errorsPage() },
    { path: 'docs/metrics.md', text: metricsPage() },
    { path: 'docs/limits.md', text: limitsPage(limitsSource) },
    { path: 'docs/schema/policy.v1.schema.json', text: `${JSON.stringify(policyJsonSchema(), null, 2)}\n` },
  ];
}
