/** `sallyport schema`: the JSON Schema that editors use. It is JSON in either form. */
import { policySchema } from '../../../config/policy/schema.ts';
import { inputSchemaOf } from '../../../config/schema-tools.ts';
import { settingsSchema } from '../../../config/settings.ts';
import { exitCodes } from '../output.ts';

export function schema(of: 'policy' | 'settings'): number {
  const value = inputSchemaOf(of === 'policy' ? policySchema : settingsSchema);
  process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
  return exitCodes.ok;
}
