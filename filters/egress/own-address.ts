/** Addresses of this machine: what is dialled there may be the sidecar itself. */
import { networkInterfaces } from 'node:os';
import ipaddr from 'ipaddr.js';
import { classifyAddress } from './classify.ts';

/** One spelling for both families; an IPv4 address in IPv6 clothes is the IPv4 address. */
const spelled = (address: string): string => {
  const bare = address.replace(/%.*$/, '');
  return ipaddr.isValid(bare) ? ipaddr.process(bare).toString() : bare;
};

export function isOwnAddress(address: string): boolean {
  const plain = spelled(address);
  const kind = classifyAddress(plain);
  if (kind === 'loopback' || kind === 'unspecified') return true;
  return Object.values(networkInterfaces()).some((all) => all?.some((own) => spelled(own.address) === plain));
}

/** Whether a listener on `host` may be what a client reached at `address`. */
export const isListenerAddress = (host: string, address: string): boolean =>
  !ipaddr.isValid(host) || classifyAddress(spelled(host)) === 'unspecified'
    ? isOwnAddress(address)
    : spelled(host) === spelled(address);
