/** `lease.lua` inside a real Envoy, run by text that a test sends: with a clock, a client and a sidecar of the test's own. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { extension, type JsonObject } from '../../envoy/json.ts';
import { leaseFilterText } from '../../envoy/lease-filter.ts';
import { envoyBinary } from '../support/envoy.ts';
import { until } from './clients.ts';

/**
 * What a scenario has: `fresh()` is the filter with nothing remembered; `send(filter, headers)` is one request, and
 * answers the decision that it goes by, or nil where it would be checked; `answerBy(function)` answers questions,
 * of which `asked()` lists the last ones, and `told()` what was told without a question; `clock.now` is the time; `lease(headers)` is an answer with a new lease.
 */
const stage = `
local asked, told, answer, count = {}, {}, nil, 0
local clock = { now = 1000000 }

local function fresh()
  local parts = assert(loadstring(SOURCE .. "\\nreturn { isPlain = isPlain, isIn = isIn, config = config }"))()
  parts.request = envoy_on_request
  asked, told, count = {}, {}, 0
  return parts
end

local function handle(headers)
  local left = {}
  local part = {
    get = function(_, name) return headers[name] end,
    remove = function(_, name) headers[name] = nil end,
  }
  local metadata = { set = function(_, _, key, value) left[key] = value end }
  local info = {
    dynamicMetadata = function() return metadata end,
    requestedServerName = function() return "" end,
    downstreamSslConnection = function() return nil end,
  }
  return {
    left = left,
    headers = function() return part end,
    timestamp = function() return clock.now end,
    streamInfo = function() return info end,
    filterContext = function() return { get = function(_, name) return name == "stage" and "absolute" or nil end } end,
    httpCall = function(_, _, question, _, timeoutMs, isAlone)
      if isAlone then
        told[#told + 1] = question["x-lease-ended"]
        return nil
      end
      if #asked >= 100 then asked = {} end
      asked[#asked + 1] = question
      return answer(question, timeoutMs)
    end,
  }
end

local function send(filter, changes)
  local headers = { [":method"] = "GET", [":authority"] = "api.test", [":path"] = "/a", connection = "1" }
  for name, value in pairs(changes or {}) do headers[name] = value end
  headers["x-sallyport-connection"] = "epoch-" .. headers.connection
  local credential = headers["proxy-authorization"]
  headers["x-sallyport-class"] = table.concat({ headers.connection, string.sub(credential or "", 1, 2),
    string.sub(credential or headers[":method"], 1, 2), headers[":method"], headers[":authority"], headers[":path"] }, " ")
  local h = handle(headers)
  filter.request(h)
  return h.left.dst and h.left.decision or nil
end

local function lease(changes)
  count = count + 1
  local found = { [":status"] = "200", ["x-lease-epoch"] = "one", ["x-lease-sequence"] = "0", ["x-lease-for"] = "robot",
    ["x-lease-path"] = "/", ["x-lease-exact"] = "0", ["x-lease-id"] = "dec_" .. count, ["x-lease-calls"] = "10",
    ["x-lease-ms"] = "500", ["x-lease-dst"] = "127.0.0.1:1" }
  for name, value in pairs(changes or {}) do found[name] = value or nil end
  return found
end
`;

const harness = `
local SOURCE = [==[
${leaseFilterText}]==]
${stage}
function envoy_on_request(h)
  local body = h:body()
  local text = body:getBytes(0, body:length())
  local at = string.find(text, "\\n--INPUT--\\n", 1, true)
  local scope = setmetatable({ fresh = fresh, send = send, lease = lease, clock = clock,
    input = string.sub(text, at + 11), asked = function() return asked end, told = function() return told end,
    answerBy = function(by) answer = by end }, { __index = _G })
  local run, result = loadstring(string.sub(text, 1, at))
  local ok = run ~= nil
  if run then ok, result = pcall(setfenv(run, scope)) end
  h:respond({ [":status"] = ok and "200" or "500" }, tostring(result))
end
`;

const config = (path: string): JsonObject => ({
  static_resources: {
    listeners: [
      {
        name: 'scenarios',
        address: { pipe: { path } },
        // What is sent as one body.
        per_connection_buffer_limit_bytes: 16 * 1024 * 1024,
        filter_chains: [
          {
            filters: [
              extension(
                'hcm',
                'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
                {
                  stat_prefix: 'scenarios',
                  route_config: {
                    virtual_hosts: [
                      {
                        name: 'all',
                        domains: ['*'],
                        routes: [{ match: { prefix: '/' }, direct_response: { status: 404 } }],
                      },
                    ],
                  },
                  http_filters: [
                    extension('lua', 'envoy.extensions.filters.http.lua.v3.Lua', {
                      default_source_code: { inline_string: harness },
                    }),
                    extension('router', 'envoy.extensions.filters.http.router.v3.Router'),
                  ],
                },
              ),
            ],
          },
        ],
      },
    ],
  },
});

export type LuaWorld = Readonly<{
  pid: number;
  /** What the Lua text returns, as text. Rejects where it fails. */
  run(text: string, input?: string): Promise<string>;
  close(): Promise<void>;
}>;

export async function startLuaWorld(): Promise<LuaWorld> {
  const dir = mkdtempSync(join(tmpdir(), 'spl-'));
  const socketPath = join(dir, 's');
  const file = join(dir, 'envoy.json');
  writeFileSync(file, JSON.stringify(config(socketPath)));
  const child = spawn(
    await envoyBinary(),
    ['-c', file, '--concurrency', '1', '--disable-hot-restart', '--log-level', 'error'],
    { stdio: 'ignore' },
  );
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await until(() => existsSync(socketPath), 'Envoy listens');
  return {
    pid: child.pid ?? 0,
    run: (text, input = '') =>
      new Promise((resolve, reject) => {
        const sent = request({ socketPath, method: 'POST', path: '/', agent: false }, (response) => {
          let found = '';
          response.setEncoding('utf8').on('data', (part: string) => {
            found += part;
          });
          response.on('end', () =>
            response.statusCode === 200 ? resolve(found) : reject(new Error(found || 'Lua failed')),
          );
        });
        sent.on('error', reject);
        sent.end(`${text}\n--INPUT--\n${input}`);
      }),
    close: async () => {
      child.kill('SIGTERM');
      await ended;
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
