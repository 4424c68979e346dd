/** The policy that most cases share. */
import { createHash } from 'node:crypto';
import type { Ports } from './harness.ts';

export const clerkPassword = 'correct horse';
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

export const sharedPolicy = ({ http, https, raw, wrong, dead }: Ports): string => `version: 1
agents:
  tester: { identity: "spiffe://sallyport.test/tester" }
  clerk:
    identity: "spiffe://sallyport.test/clerk"
    credentials: ["sha256:${sha256(clerkPassword)}"]
routes:
  /openai: { upstream: "https://api.test:${https}" }
  /shop: { upstream: "http://api.test:${http}/orders-base" }
rules:
  - name: api
    agents: [tester]
    to: { hosts: [api.test], ports: [${http}, ${https}], internal: true }
    allow: {}
  - name: no-admin
    to: { hosts: [api.test], ports: [${http}, ${https}], paths: ["/admin/**"] }
    forbid: { reason: administrators only }
  - name: read-other
    agents: [tester, clerk]
    to: { hosts: [other.test], ports: [${http}, ${https}], methods: [GET, HEAD], internal: true }
    allow: {}
  - name: opaque
    to: { hosts: [opaque.test], ports: [${https}], inspect: sni, internal: true }
    allow: {}
  - name: tunnel
    to: { hosts: [tunnel.test], ports: [${raw}], inspect: tunnel, internal: true }
    allow: {}
  - name: not-internal
    to: { hosts: [private.test], ports: [${http}, ${https}] }
    allow: {}
  - name: by-address
    to: { hosts: ["127.0.0.1"], ports: [${http}, ${https}], paths: [/hello], internal: true }
    allow: {}
  - name: proves-another-name
    to: { hosts: [wrong.test], ports: [${wrong}], internal: true }
    allow: {}
  - name: nobody-there
    to: { hosts: [api.test], ports: [${dead}], internal: true }
    allow: {}
  - name: mcp-talk
    to: { hosts: [mcp.test], ports: [${http}, ${https}], paths: [/mcp], mcp: { methods: [initialize, tools/list] }, internal: true }
    allow: {}
  - name: mcp-search
    to: { hosts: [mcp.test], ports: [${http}, ${https}], paths: [/mcp], mcp: { methods: [tools/call], tools: ["search_*"] }, internal: true }
    allow: {}
  - name: small-orders
    to: { hosts: [hold.test], ports: [${http}], paths: [/orders], methods: [POST], internal: true }
    when: request.body_bytes < 9
    allow: {}
  - name: small-bulk
    to: { hosts: [hold.test], ports: [${http}], paths: [/bulk], methods: [POST], internal: true }
    when: request.body_bytes < 9
    allow: {}
  - name: bulk
    to: { hosts: [hold.test], ports: [${http}], paths: [/bulk], methods: [POST], internal: true }
    allow: {}
`;

export const holdPolicy =
  (wait: string, timeout = '1h') =>
  ({ http, https }: Ports): string =>
    `version: 1
agents:
  tester: { identity: "spiffe://sallyport.test/tester" }
rules:
  - name: orders
    to: { hosts: [hold.test], ports: [${http}, ${https}], methods: [POST], paths: [/orders], internal: true }
    hold: { approvers: operators, wait: ${wait}, timeout: ${timeout}, reason: orders cost money }
approvers:
  operators: { members: [dana] }
`;

export const quotaPolicy =
  (limit: number) =>
  ({ http }: Ports): string =>
    `version: 1
agents:
  tester: { identity: "spiffe://sallyport.test/tester" }
rules:
  - name: limited
    to: { hosts: [api.test], ports: [${http}], internal: true }
    allow: {}
quotas:
  - { name: hundred, limit: ${limit}, window: 1h }
`;
