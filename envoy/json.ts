/** Envoy's configuration as JSON (proto3 JSON mapping), built by small functions of this folder. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export type JsonObject = { readonly [key: string]: Json };

const prefix = 'type.googleapis.com/';

/** A message inside an Any. */
export const any = (type: string, fields: JsonObject = {}): JsonObject => ({
  '@type': prefix + type,
  ...fields,
});

/** A named extension with its typed configuration. */
export const extension = (name: string, type: string, fields: JsonObject = {}): JsonObject => ({
  name,
  typed_config: any(type, fields),
});

/** Envoy writes durations as decimal seconds. */
export const duration = (ms: number): string => `${ms / 1000}s`;

/** A literal inside an RE2 expression. */
export const literal = (text: string): string => text.replace(/[\\^$.|?*+()[\]{}/-]/g, (c) => `\\${c}`);
