/** Frames of HTTP/2 (RFC 9113, sections 4 and 6), read and written as binary text: one character for each byte. */

export const frameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const flag = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

export const frameHeadBytes = 9;
/** SETTINGS_MAX_FRAME_SIZE where nobody says otherwise. */
export const frameBytesDefault = 16_384;
export const windowDefault = 65_535;
export const windowMax = 2 ** 31 - 1;

export const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

/** Section 7. */
export const errorCode = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  FLOW_CONTROL_ERROR: 3,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  COMPRESSION_ERROR: 9,
  ENHANCE_YOUR_CALM: 11,
} as const;
export type ErrorName = keyof typeof errorCode;

/** Ends the connection (section 5.4.1). */
export class H2ConnectionError extends Error {
  readonly code: ErrorName;
  constructor(code: ErrorName, message: string) {
    super(message);
    this.code = code;
  }
}
export const connectionError = (code: ErrorName, message: string): H2ConnectionError =>
  new H2ConnectionError(code, message);

const byte = (value: number): string => String.fromCharCode(value & 0xff);
export const uint32 = (value: number): string =>
  String.fromCharCode((value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);

export const frame = (type: number, flags: number, stream: number, payload: string): string =>
  String.fromCharCode(
    (payload.length >>> 16) & 0xff,
    (payload.length >>> 8) & 0xff,
    payload.length & 0xff,
    type,
    flags,
    (stream >>> 24) & 0x7f,
    (stream >>> 16) & 0xff,
    (stream >>> 8) & 0xff,
    stream & 0xff,
  ) + payload;

export const setting = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const;

export const settingsFrame = (values: readonly (readonly [id: number, value: number])[]): string =>
  frame(
    frameType.settings,
    0,
    0,
    values.map(([id, value]) => byte(id >>> 8) + byte(id) + uint32(value)).join(''),
  );
export const settingsAck = frame(frameType.settings, flag.ack, 0, '');
export const rstStream = (stream: number, code: ErrorName): string =>
  frame(frameType.rstStream, 0, stream, uint32(errorCode[code]));
export const goaway = (last: number, code: ErrorName): string =>
  frame(frameType.goaway, 0, 0, uint32(last) + uint32(errorCode[code]));
export const windowUpdate = (stream: number, bytes: number): string =>
  frame(frameType.windowUpdate, 0, stream, uint32(bytes));

/** A field that never enters a table, its name and value spelt out (RFC 7541, section 6.2.2). */
const literalField = (name: string, value: string): string => `\0${hpackText(name)}${hpackText(value)}`;

function hpackText(text: string): string {
  if (text.length < 127) return byte(text.length) + text;
  let rest = text.length - 127;
  let length = '\x7f';
  for (; rest >= 128; rest = Math.floor(rest / 128)) length += byte((rest % 128) | 0x80);
  return length + byte(rest) + text;
}

/** @param status HTTP status; 200 has an index of its own. */
export const headerBlock = (
  status: number | undefined,
  fields: readonly (readonly [name: string, value: string])[],
): string =>
  (status === undefined ? '' : status === 200 ? '\x88' : literalField(':status', String(status))) +
  fields.map(([name, value]) => literalField(name, value)).join('');

export function assertFrame(isSize: boolean, isStream: boolean): void {
  if (!isSize) throw connectionError('FRAME_SIZE_ERROR', 'a frame has the wrong size');
  if (!isStream) throw connectionError('PROTOCOL_ERROR', 'a frame is on the wrong stream');
}

/** Section 6.1: what is inside the padding. */
export function unpadded(flags: number, payload: Buffer): Buffer {
  if ((flags & flag.padded) === 0) return payload;
  const padding = payload[0];
  if (padding === undefined) throw connectionError('FRAME_SIZE_ERROR', 'a frame has the wrong size');
  if (padding >= payload.length) throw connectionError('PROTOCOL_ERROR', 'more padding than frame');
  return payload.subarray(1, payload.length - padding);
}
