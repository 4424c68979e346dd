/**
 * envoy.service.auth.v3.CheckRequest off the wire, in the shape that `decodeCheckRequest` takes, and of it only
 * what that reads: times, sizes, the destination's side and certificates are skipped as bytes.
 */
import { Reader } from './h2-protobuf.ts';

type Fields = Record<string, unknown>;
type HeaderValue = { key: string; value: string; raw_value: Uint8Array | undefined };

/** @throws RequestMalformed where the bytes are no message. */
export function readCheckRequest(bytes: Buffer): Fields {
  const attributes: Fields = {};
  const reader = new Reader(bytes.toString('latin1'));
  while (reader.next()) {
    if (reader.field === 1) reader.message((inside) => readAttributes(inside, attributes));
    else reader.skip();
  }
  return { attributes };
}

/** What was there of this message already: a message that comes in two pieces is one (encoding, "Last One Wins"). */
function fieldsAt(parent: Fields, name: string): Fields {
  const known = parent[name];
  if (known !== undefined) return known as Fields; // Only this function writes these names.
  const made: Fields = {};
  parent[name] = made;
  return made;
}

function readAttributes(reader: Reader, attributes: Fields): void {
  switch (reader.field) {
    case 1: {
      const source = fieldsAt(attributes, 'source');
      reader.message((inside) => readPeer(inside, source));
      break;
    }
    case 4: {
      const request = fieldsAt(attributes, 'request');
      reader.message((inside) => readRequest(inside, request));
      break;
    }
    case 10: {
      const { key, value } = readEntry(reader);
      // Without prototype: a key is whatever the configuration says.
      attributes['context_extensions'] ??= Object.create(null);
      fieldsAt(attributes, 'context_extensions')[key] = value;
      break;
    }
    case 12: {
      const session = fieldsAt(attributes, 'tls_session');
      reader.message((inside) => {
        if (inside.field === 1) session['sni'] = inside.string();
        else inside.skip();
      });
      break;
    }
    default:
      reader.skip();
  }
}

function readPeer(reader: Reader, peer: Fields): void {
  if (reader.field === 4) peer['principal'] = reader.string();
  else if (reader.field === 1) {
    const address = fieldsAt(peer, 'address');
    reader.message((inside) => {
      if (inside.field === 1) readSocketAddress(inside, fieldsAt(address, 'socket_address'));
      else inside.skip();
    });
  } else reader.skip();
}

const readSocketAddress = (reader: Reader, socket: Fields): void =>
  reader.message((inside) => {
    if (inside.field === 2) socket['address'] = inside.string();
    else if (inside.field === 3) socket['port_value'] = inside.number();
    else inside.skip();
  });

function readRequest(reader: Reader, request: Fields): void {
  if (reader.field !== 2) {
    reader.skip();
    return;
  }
  const http = fieldsAt(request, 'http');
  reader.message((inside) => readHttp(inside, http));
}

const httpText: Readonly<Record<number, string>> = {
  1: 'id',
  2: 'method',
  4: 'path',
  5: 'host',
  6: 'scheme',
  7: 'query',
  8: 'fragment',
  11: 'body',
};

function readHttp(reader: Reader, http: Fields): void {
  const name = httpText[reader.field];
  if (name !== undefined) http[name] = reader.string();
  else if (reader.field === 3) {
    const entry = readEntry(reader);
    // A list, and not a map: a header that stands twice is then seen twice.
    headersOf(http).push({ key: entry.key, value: entry.value, raw_value: undefined });
  } else if (reader.field === 12) http['raw_body'] = reader.bytes();
  else if (reader.field === 13) reader.message((inside) => readHeaderMap(inside, http));
  else reader.skip();
}

function headersOf(http: Fields): HeaderValue[] {
  const map = fieldsAt(http, 'header_map');
  map['headers'] ??= [];
  return map['headers'] as HeaderValue[]; // Only this function writes the name.
}

function readHeaderMap(reader: Reader, http: Fields): void {
  if (reader.field !== 1) {
    reader.skip();
    return;
  }
  const header: HeaderValue = { key: '', value: '', raw_value: undefined };
  reader.message((inside) => {
    if (inside.field === 1) header.key = inside.string();
    else if (inside.field === 2) header.value = inside.string();
    else if (inside.field === 3) header.raw_value = inside.bytes();
    else inside.skip();
  });
  headersOf(http).push(header);
}

type Entry = { key: string; value: string };

/** A map is a list of messages of key and value. */
function readEntry(reader: Reader): Entry {
  const entry: Entry = { key: '', value: '' };
  reader.message((inside) => {
    if (inside.field === 1) entry.key = inside.string();
    else if (inside.field === 2) entry.value = inside.string();
    else inside.skip();
  });
  return entry;
}
