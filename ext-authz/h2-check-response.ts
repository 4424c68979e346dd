/** envoy.service.auth.v3.CheckResponse as bytes, one character for each. */
import type { CheckResponse, HeaderChange } from './encode.ts';
import { binaryField, numberField, stringField } from './h2-protobuf.ts';

/** envoy.config.core.v3.HeaderValueOption.HeaderAppendAction. */
const appendAction: Readonly<Record<HeaderChange['append_action'], number>> = {
  APPEND_IF_EXISTS_OR_ADD: 0,
  OVERWRITE_IF_EXISTS_OR_ADD: 2,
};

const headerOption = (change: HeaderChange): string =>
  binaryField(1, stringField(1, change.header.key) + stringField(2, change.header.value)) +
  numberField(3, appendAction[change.append_action]);

const headerOptions = (field: number, changes: readonly HeaderChange[]): string => {
  let text = '';
  for (const change of changes) text += binaryField(field, headerOption(change));
  return text;
};

/** Lists of headers to remove are few, and each the same array. */
const removals = new WeakMap<readonly string[], string>();

function headersToRemove(names: readonly string[]): string {
  let text = removals.get(names);
  if (text === undefined) {
    text = names.map((name) => stringField(5, name)).join('');
    removals.set(names, text);
  }
  return text;
}

function metadataField({ fields }: NonNullable<CheckResponse['dynamic_metadata']>): string {
  let text = '';
  for (const key in fields)
    text += binaryField(
      1,
      stringField(1, key) + binaryField(2, stringField(3, fields[key]?.stringValue ?? '')),
    );
  return binaryField(4, text);
}

export function checkResponseBytes(response: CheckResponse): string {
  const { status, dynamic_metadata: metadata, ok_response: ok, denied_response: denied } = response;
  let text = binaryField(1, numberField(1, status.code));
  if (denied !== undefined)
    text += binaryField(
      2,
      binaryField(1, numberField(1, denied.status.code)) +
        headerOptions(2, denied.headers) +
        stringField(3, denied.body),
    );
  if (ok !== undefined)
    text += binaryField(
      3,
      headersToRemove(ok.headers_to_remove) + headerOptions(6, ok.response_headers_to_add),
    );
  return metadata === undefined ? text : text + metadataField(metadata);
}
