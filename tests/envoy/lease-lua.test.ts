import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import { inRegion, type LeaseRegion } from '../../filters/policy/lease-region.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { type LuaWorld, startLuaWorld } from './lease-lua-world.ts';

let world: LuaWorld;
beforeAll(async () => {
  world = await startLuaWorld();
});
afterAll(() => world.close());

const hex = (bytes: string): string => Buffer.from(bytes, 'latin1').toString('hex');

test('which paths are in a region is the same in Envoy as in the sidecar', async () => {
  const odd = fc.constantFrom(
    ...[
      '/',
      '//',
      '/./',
      '/../',
      '/.',
      '/..',
      '.',
      '..',
      '?',
      '??',
      '#',
      '%2e',
      '%',
      ';',
      '\\',
      '*',
      '|',
      '"',
    ],
    ...[
      '\0',
      '\n',
      '\t',
      ' ',
      '\x7f',
      '\x80',
      '\xe9',
      '\xff',
      "!$&'()+,=:@-~_",
      '[',
      ']',
      '^',
      '`',
      '{',
      '}',
      '<',
    ],
  );
  const bytes = fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code));
  const part = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom('a', 'v1', '/', '/v1/', 'B9') },
    { weight: 3, arbitrary: odd },
    { weight: 2, arbitrary: bytes },
  );
  const target = fc.tuple(fc.constantFrom('/', '/v1/', '/v1/a', ''), fc.array(part, { maxLength: 6 }));
  const targets = fc
    .sample(target, { numRuns: 20_000, seed: fuzzRuns.seed })
    .map(([start, parts]) => start + parts.join(''));
  const room = limits.pathBytesMax - '/v1/a?'.length;
  for (const more of [-1, 0, 1])
    targets.push(`/v1/a?${'b'.repeat(room + more)}`, `/v1/${'b'.repeat(room + 2 + more)}`);
  // Every byte at every place that is read in another way.
  for (let code = 0; code < 256; code += 1)
    for (const [before, after] of [
      ['/v1/', ''],
      ['/v1/', '/a'],
      ['/v1/a?', ''],
      ['/v1/a?b', 'c'],
      ['', '/v1/a'],
    ])
      targets.push(`${before}${String.fromCharCode(code)}${after}`);
  const regions: LeaseRegion[] = [
    { methods: 'this', prefix: '/', exact: false },
    { methods: 'this', prefix: '/v1/', exact: false },
    { methods: 'this', prefix: '/v1/a', exact: true },
  ];
  const found = await world.run(
    `local filter, out = fresh(), {}
    local regions = { { path = "/", exact = false }, { path = "/v1/", exact = false }, { path = "/v1/a", exact = true } }
    for line in string.gmatch(input, "([^\\n]*)\\n") do
      local target = string.gsub(line, "..", function(pair) return string.char(tonumber(pair, 16)) end)
      local bits = ""
      for _, region in ipairs(regions) do
        bits = bits .. (filter.isPlain(target) and filter.isIn(region, target) and "1" or "0")
      end
      out[#out + 1] = bits
    end
    return table.concat(out, "\\n")`,
    targets.map((text) => `${hex(text)}\n`).join(''),
  );
  const inEnvoy = found.split('\n');
  expect(inEnvoy.length).toBe(targets.length);
  const inSidecar = targets.map((text) =>
    regions.map((region) => (inRegion(region, text) ? '1' : '0')).join(''),
  );
  const differing = targets.filter((_, at) => inEnvoy[at] !== inSidecar[at]);
  expect(differing.map((text) => JSON.stringify(text.slice(0, 100)))).toEqual([]);
  expect(inSidecar.filter((bits) => bits.includes('1')).length).toBeGreaterThan(1_000);
  expect(inSidecar.filter((bits) => bits === '000').length).toBeGreaterThan(1_000);
});

const run = (text: string): Promise<string> => world.run(text);

/** A filter whose class is busy, with a lease of 10 calls and 500 ms. */
const leased = `
  local filter = fresh()
  local start = clock.now
  answerBy(function() return lease() end)
  for _ = 1, 4 do send(filter) end
`;

test('a class is asked for once it is busy, and each use has the next place in the lease', async () => {
  const found = await run(`
    local filter, uses = fresh(), {}
    answerBy(function() return lease() end)
    for at = 1, 7 do uses[at] = send(filter) or "checked" end
    return table.concat(uses, " ") .. " after " .. #asked()`);
  expect(found).toBe('checked checked checked dec_1#1 dec_1#2 dec_1#3 dec_1#4 after 1');
});

test('the life of a lease counts from the question, so that an answer that comes late stretches nothing', async () => {
  const found = await run(`
    local filter, uses = fresh(), {}
    answerBy(function() clock.now = clock.now + 600 return lease() end)
    for at = 1, 4 do uses[at] = send(filter) or "checked" end
    return table.concat(uses, " ")`);
  expect(found).toBe('checked checked checked checked');
});

test('a request that waits for the next lease does not leave by the one that ended meanwhile', async () => {
  const found = await run(`${leased}
    clock.now = start + 450
    answerBy(function() clock.now = clock.now + 100 return { [":status"] = "503" } end)
    return tostring(send(filter))`);
  expect(found).toBe('nil');
});

test('what was granted under a policy is not used once a newer one is known', async () => {
  const found = await run(`${leased}
    local waiting = coroutine.wrap(function() return send(filter) or "checked" end)
    clock.now = start + 450
    answerBy(function() coroutine.yield() return { [":status"] = "503" } end)
    waiting()
    answerBy(function() return lease({ ["x-lease-sequence"] = "1", ["x-lease-for"] = false, ["x-lease-id"] = false }) end)
    for _ = 1, 4 do send(filter, { connection = "2" }) end
    return waiting()`);
  expect(found).toBe('checked');
});

test('an answer that was overtaken by one of a newer policy is not used, and its calls are told as unused', async () => {
  const found = await run(`
    local filter = fresh()
    local function busy(connection) return send(filter, { connection = connection }) or "checked" end
    for _ = 1, 3 do busy("1") busy("2") end
    answerBy(function() coroutine.yield() return lease({ ["x-lease-id"] = "dec_old" }) end)
    local waiting = coroutine.wrap(busy)
    waiting("1")
    answerBy(function() return lease({ ["x-lease-sequence"] = "1", ["x-lease-id"] = "dec_new" }) end)
    local newer = busy("2")
    local older = waiting()
    clock.now = clock.now + 600
    busy("2")
    return newer .. " " .. older .. " " .. table.concat(told(), " ")`);
  expect(found).toBe('dec_new#1 checked dec_new=9,dec_old=10');
});

test('a clock that is set back ends every lease', async () => {
  const found = await run(`${leased}
    clock.now = start + 100
    local before = send(filter)
    clock.now = start + 10
    answerBy(function() return { [":status"] = "503" } end)
    local after = tostring(send(filter))
    -- While a lease is asked for, too.
    answerBy(function() clock.now = clock.now - 10000 return lease() end)
    for _ = 1, 4 do send(filter, { connection = "2" }) end
    answerBy(function() return { [":status"] = "503" } end)
    return before .. " " .. after .. " " .. tostring(send(filter, { connection = "2" }))`);
  expect(found).toBe('dec_1#2 nil nil');
});

test('what an ended lease left is told by whatever request finds no lease, of another class too, once', async () => {
  const found = await run(`${leased}
    clock.now = start + 600
    for _ = 1, 3 do send(filter, { [":method"] = "POST" }) end
    return table.concat(told(), " ") .. " " .. #asked()`);
  expect(found).toBe('dec_1=9 1');
});

test('a question tells it as well, and again where it was not heard', async () => {
  const found = await run(`${leased}
    clock.now = start + 450
    send(filter)
    -- By now the first is over, and the second is in use.
    clock.now = start + 900
    answerBy(function() return { [":status"] = "503" } end)
    send(filter)
    clock.now = start + 1420
    answerBy(function() return lease() end)
    send(filter)
    for _ = 1, 4 do send(filter) end
    local said = {}
    for at, question in ipairs(asked()) do said[at] = question["x-lease-ended"] or "nothing" end
    return table.concat(said, " ") .. " " .. table.concat(told(), " ")`);
  expect(found).toBe('nothing nothing dec_1=9 nothing dec_2=8,dec_1=9');
});

test('who is refused silences nobody else: another connection of the same place goes on being leased', async () => {
  const found = await run(`
    local filter, refused, uses = fresh(), 0, 0
    answerBy(function(question)
      if question["x-sallyport-connection"] == "epoch-1" then return lease() end
      refused = refused + 1
      return lease({ ["x-lease-for"] = false, ["x-lease-id"] = false, ["x-lease-quiet-ms"] = "500" })
    end)
    for round = 1, 400 do
      clock.now = clock.now + 5
      if send(filter, { connection = "2" }) then error("leased") end
      if send(filter) then uses = uses + 1 end
    end
    return refused .. " " .. uses`);
  const [refused = 0, uses = 0] = found.split(' ').map(Number);
  expect(refused).toBeLessThan(10);
  expect(uses).toBeGreaterThan(390);
});

test('what a client makes up fills no memory: names, paths, methods, credentials, connections', async () => {
  const found = await run(`
    local filter = fresh()
    local long = string.rep("x", 8000)
    answerBy(function(question)
      -- As if every rule let everything pass, in a tunnel, each path a region of its own.
      return lease({ ["x-lease-for"] = "robot" .. question["x-lease-authority"],
        ["x-lease-path"] = question["x-lease-path"], ["x-lease-exact"] = "1" })
    end)
    collectgarbage() collectgarbage()
    local before, most = collectgarbage("count"), 0
    local function flood(vary)
      for at = 1, 6000 do
        clock.now = clock.now + 1
        local headers = vary(at)
        for _ = 1, 5 do send(filter, headers) end
        if at % 500 == 0 then
          collectgarbage()
          most = math.max(most, collectgarbage("count") - before)
        end
      end
    end
    flood(function(at) return { [":path"] = "/" .. at .. long } end)
    flood(function(at) return { [":path"] = "/" .. at .. string.sub(long, 1, 900) } end)
    flood(function(at) return { [":authority"] = at .. string.sub(long, 1, 500) } end)
    flood(function(at) return { [":authority"] = at .. ".test", [":path"] = "/" .. at .. string.sub(long, 1, 900) } end)
    flood(function(at) return { ["proxy-authorization"] = at .. long } end)
    flood(function(at) return { ["proxy-authorization"] = at .. string.sub(long, 1, 400) } end)
    flood(function(at) return { [":method"] = "M" .. at } end)
    flood(function(at) return { connection = at, [":path"] = "/" .. at .. string.sub(long, 1, 900) } end)
    return math.ceil(most / 1024)`);
  expect(Number(found)).toBeLessThan(24);
}, 60_000);

test('where each path is a region of its own, not every new path is asked about', async () => {
  const found = await run(`
    local filter, leased = fresh(), 0
    answerBy(function(question)
      return lease({ ["x-lease-path"] = question["x-lease-path"], ["x-lease-exact"] = "1" })
    end)
    for at = 1, 400 do
      clock.now = clock.now + 5
      send(filter, { [":path"] = "/a/" .. at })
    end
    local questions = #asked()
    -- One that is asked for often is leased all the same.
    for at = 1, 400 do
      clock.now = clock.now + 5
      if send(filter, { [":path"] = "/often" }) then leased = leased + 1 end
    end
    return questions .. " " .. leased`);
  const [questions = 0, leased = 0] = found.split(' ').map(Number);
  expect(questions).toBeLessThan(8);
  expect(leased).toBeGreaterThan(250);
});
