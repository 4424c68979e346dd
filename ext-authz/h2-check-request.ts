/**
 * envoy.service.auth.v3.CheckRequest off the wire, and of it only what a check reads: times, sizes, the
 * destination's side, certificates and metadata are passed over as bytes.
 */
import { Reader } from './h2-protobuf.ts';
import type { HeaderEntry } from './headers.ts';

/** What is not said is empty, as proto3 has it. */
export type CheckRequest = {
  sourceAddress: string;
  sourcePort: number;
  principal: string;
  id: string;
  method: string;
  scheme: string;
  host: string;
  path: string;
  query: string;
  fragment: string;
  /** In the order of the wire. A header that stands twice is here twice, where a map would keep the last. */
  headers: HeaderEntry[];
  body: string;
  rawBody: Uint8Array | undefined;
  sni: string;
  /** `context_extensions` that our routes set; what else stands there is nobody's. */
  stage: string;
  prefix: string;
  upstream: string;
  /** `read` where the body was. */
  bodyRead: string;
  mcp: string;
};

const emptyCheck = (): CheckRequest => ({
  sourceAddress: '',
  sourcePort: 0,
  principal: '',
  id: '',
  method: '',
  scheme: '',
  host: '',
  path: '',
  query: '',
  fragment: '',
  headers: [],
  body: '',
  rawBody: undefined,
  sni: '',
  stage: '',
  prefix: '',
  upstream: '',
  bodyRead: '',
  mcp: '',
});

/** A message that comes in two pieces is one, and of what is said twice the last counts (encoding, "Last One Wins"). */
export function readCheckRequest(bytes: Buffer): CheckRequest {
  const check = emptyCheck();
  const reader = new Reader(bytes.toString('latin1'));
  while (reader.next()) {
    if (reader.field === 1) readAttributes(reader, check);
    else reader.skip();
  }
  return check;
}

/** AttributeContext. */
function readAttributes(reader: Reader, check: CheckRequest): void {
  const end = reader.enter();
  while (reader.next()) {
    if (reader.field === 1) readPeer(reader, check);
    else if (reader.field === 4) readRequest(reader, check);
    else if (reader.field === 10) readExtension(reader, check);
    else if (reader.field === 12) readTls(reader, check);
    else reader.skip();
  }
  reader.leave(end);
}

function readPeer(reader: Reader, check: CheckRequest): void {
  const end = reader.enter();
  while (reader.next()) {
    if (reader.field === 1) readAddress(reader, check);
    else if (reader.field === 4) check.principal = reader.string();
    else reader.skip();
  }
  reader.leave(end);
}

/** envoy.config.core.v3.Address, of which only a socket address is read. */
function readAddress(reader: Reader, check: CheckRequest): void {
  const end = reader.enter();
  while (reader.next()) {
    if (reader.field === 1) readSocketAddress(reader, check);
    else reader.skip();
  }
  reader.leave(end);
}

function readSocketAddress(reader: Reader, check: CheckRequest): void {
  const end = reader.enter();
  while (reader.next()) {
    if (reader.field === 2) check.sourceAddress = reader.string();
    else if (reader.field === 3) check.sourcePort = reader.number();
    else reader.skip();
  }
  reader.leave(end);
}

function readRequest(reader: Reader, check: CheckRequest): void {
  const end = reader.enter();
  while (reader.next()) {
    if (reader.field === 2) readHttp(reader, check);
    else reader.skip();
  }
  reader.leave(end);
}

function readHttp(reader: Reader, check: CheckRequest): void {
  const end = reader.enter();
  while (reader.next()) {
    switch (reader.field) {
      case 1:
        check.id = reader.string();
        break;
      case 2:
        check.method = reader.string();
        break;
      case 3:
        readHeader(reader, check);
        break;
      case 4:
        check.path = reader.string();
        break;
      case 5:
        check.host = reader.string();
        break;
      case 6:
        check.scheme = reader.string();
        break;
      case 7:
        check.query = reader.string();
        break;
      case 8:
        check.fragment = reader.string();
        break;
      case 11:
        check.body = reader.string();
        break;
      case 12:
        check.rawBody = reader.bytes();
        break;
      case 13:
        readHeaderMap(reader, check);
        break;
      default:
        reader.skip();
    }
  }
  reader.leave(end);
}

function readHeaderMap(reader: Reader, check: CheckRequest): void {
  const end = reader.enter();
  while (reader.next()) {
    if (reader.field === 1) readHeader(reader, check);
    else reader.skip();
  }
  reader.leave(end);
}

/** An entry of the map `headers`, or a HeaderValue: both have the name first and the value second. */
function readHeader(reader: Reader, check: CheckRequest): void {
  const end = reader.enter();
  let name = '';
  let value = '';
  let raw = '';
  while (reader.next()) {
    if (reader.field === 1) name = reader.string();
    else if (reader.field === 2) value = reader.string();
    else if (reader.field === 3) raw = reader.string();
    else reader.skip();
  }
  reader.leave(end);
  // `ext_authz.encode_raw_headers` chooses which of the two Envoy fills.
  check.headers.push([name, raw === '' ? value : raw]);
}

function readExtension(reader: Reader, check: CheckRequest): void {
  const end = reader.enter();
  let name = '';
  let value = '';
  while (reader.next()) {
    if (reader.field === 1) name = reader.string();
    else if (reader.field === 2) value = reader.string();
    else reader.skip();
  }
  reader.leave(end);
  if (name === 'stage') check.stage = value;
  else if (name === 'prefix') check.prefix = value;
  else if (name === 'upstream') check.upstream = value;
  else if (name === 'body') check.bodyRead = value;
  else if (name === 'mcp') check.mcp = value;
}

function readTls(reader: Reader, check: CheckRequest): void {
  const end = reader.enter();
  while (reader.next()) {
    if (reader.field === 1) check.sni = reader.string();
    else reader.skip();
  }
  reader.leave(end);
}
