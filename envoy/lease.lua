-- Leases. One decision of the sidecar stands for many requests of a class; while one is held here, a request
-- of that class needs no check. A hit writes two entries of metadata, which no client can write: `dst`, which
-- the upstream clusters dial and whose presence lets ext_authz be skipped, and `decision`, which the access
-- log tells with the use's ordinal. Everything else goes to ext_authz as if this filter were not here.
--
--   peers       connection, and credential where one is sent → principal (as the sidecar named it)
--   principal   method and authority → class
--   class       regions of paths, each with the lease that pays for it
--   shortcuts   connection, method, authority and path in one text, which Envoy writes (`x-sallyport-class`)
--               → region: nearly every hit needs no more
--   heats       how often a connection that is not known yet found no lease
--
-- The state is one worker's, of one listener. Nothing is kept that the sidecar did not answer, and an answer of
-- another epoch (policy, lockdown, sidecar) ends all of it. The life of a lease counts from the question, and a
-- clock that is set back ends it. Who is refused is quiet himself and silences nobody else. Whatever a client
-- can vary is bounded in length and number; past that everything is forgotten, and asked for anew.
--
-- `config` is put in front of this text: cluster, and the limits of config/limits.ts.

-- Every request makes a few small objects, and what is kept is small: collected less often, a hit is cheaper.
collectgarbage("setpause", 400)

local NAMESPACE = "envoy.filters.http.ext_authz"
local find, sub, tonumber, pairs = string.find, string.sub, tonumber, pairs

-- Names this state among those of all workers and listeners.
local vm = sub(tostring({}), 8) .. "-" .. tostring(math.random(0, 2147483647))

local epoch = ""
local sequence = -1
local latest = 0
local peers, peerCount = {}, 0
local principals, classCount = {}, 0
local heats, heatCount = {}, 0
local shortcuts, shortcutCount = {}, 0
-- Leases in the order of their grants, each until a question has told what was left of it.
local granted, oldest, newest = {}, 1, 0

local function forget()
  shortcuts, shortcutCount = {}, 0
  peers, peerCount = {}, 0
  principals, classCount = {}, 0
  heats, heatCount = {}, 0
  for at = oldest, newest do granted[at].over = true end
end

local function timeOf(h)
  local now = h:timestamp()
  if now < latest then forget() end
  latest = now
  return now
end

-- The path and query may be taken for what they say: filters/policy/lease-region.ts has the same.
local function isPlain(target)
  if #target > config.pathBytesMax then return false end
  local path = target
  local query = find(target, "?", 1, true)
  if query then
    if find(target, "[^!\"$-~]", query + 1) then return false end
    path = sub(target, 1, query - 1)
  end
  return find(path, "^/[%w%._~!%$&'%(%)%+,=:@/%-]*$") ~= nil
    and not find(path, "//", 1, true)
    and not find(path, "/./", 1, true)
    and not find(path, "/../", 1, true)
    and not find(path, "/%.%.?$")
end

local function isIn(region, target)
  if not region.exact then return sub(target, 1, #region.path) == region.path end
  local query = find(target, "?", 1, true)
  return (query and sub(target, 1, query - 1) or target) == region.path
end

local function regionOf(class, target)
  if not isPlain(target) then return nil end
  for _, region in pairs(class.regions) do
    if isIn(region, target) then return region end
  end
  return nil
end

local function newHeat()
  return { misses = 0, since = 0, quietTill = 0, asked = false }
end

local function heatOf(who, key)
  local name = who .. " " .. key
  local heat = heats[name]
  if not heat then
    if heatCount >= config.heatsMax then
      heats, heatCount = {}, 0
    end
    heat = newHeat()
    heats[name] = heat
    heatCount = heatCount + 1
  end
  return heat
end

-- One more request that no lease pays for: are there enough of them to ask for one?
local function isBusy(heat, now)
  if now - heat.since > config.heatMs then
    heat.misses, heat.since = 0, now
  end
  heat.misses = heat.misses + 1
  return heat.misses >= config.missesMin
end

-- Not refused lately, and no question under way, unless its answer can no longer come.
local function mayAsk(heat, now)
  return now >= heat.quietTill and not (heat.asked and now - heat.asked < config.timeoutMs)
end

local function isGood(lease, now)
  return lease and not lease.over and lease.left > 0 and now < lease.till
end

local function use(h, lease)
  local left = lease.left - 1
  lease.left = left
  local metadata = h:streamInfo():dynamicMetadata()
  metadata:set(NAMESPACE, "decision", lease.mark .. lease.calls - left)
  metadata:set(NAMESPACE, "dst", lease.dst)
end

local function remember(lease)
  newest = newest + 1
  granted[newest] = lease
end

-- The leases that have ended, oldest first, and what was left of each.
local function takeEnded(now)
  local ended, texts, count = {}, {}, 0
  while oldest <= newest and count < config.reportsMax do
    local lease = granted[oldest]
    if not lease.over and now < lease.till then break end
    lease.over = true
    count = count + 1
    ended[count], texts[count] = lease, lease.id .. "=" .. lease.left
    granted[oldest] = nil
    oldest = oldest + 1
  end
  return ended, texts
end

-- What ended leases left is told without waiting, by whatever request finds no lease: who waits for it waits less.
local function tellEnded(h, now)
  local lease = granted[oldest]
  if not lease or not lease.over and now < lease.till then return end
  local _, texts = takeEnded(now)
  local report = {
    [":method"] = "POST",
    [":path"] = "/ended",
    [":authority"] = "sidecar",
    ["x-lease-vm"] = vm,
    ["x-lease-ended"] = table.concat(texts, ","),
  }
  h:httpCall(config.cluster, report, "", config.timeoutMs, true)
end

-- Asks the sidecar for a lease. Yields: every object taken of the handle before is dead after it.
local function ask(h, heat, now, old)
  local hd = h:headers()
  local context = h:filterContext()
  local question = {
    [":method"] = "POST",
    [":path"] = "/lease",
    [":authority"] = "sidecar",
    ["x-lease-vm"] = vm,
    ["x-lease-method"] = hd:get(":method"),
    ["x-lease-authority"] = hd:get(":authority"),
    ["x-lease-path"] = hd:get(":path"),
    ["x-lease-stage"] = context:get("stage"),
    ["x-lease-prefix"] = context:get("prefix"),
    ["x-lease-upstream"] = context:get("upstream"),
    ["x-lease-sni"] = h:streamInfo():requestedServerName(),
    ["x-sallyport-source"] = hd:get("x-sallyport-source"),
    ["x-sallyport-connection"] = hd:get("x-sallyport-connection"),
    ["x-sallyport-connect"] = hd:get("x-sallyport-connect"),
    ["x-sallyport-agent"] = hd:get("x-sallyport-agent"),
    ["x-sallyport-proof"] = hd:get("x-sallyport-proof"),
    ["proxy-authorization"] = hd:get("proxy-authorization"),
  }
  local tls = h:streamInfo():downstreamSslConnection()
  if tls then
    local names = tls:uriSanPeerCertificate()
    if names then question["x-lease-principal"] = names[1] end
  end
  if old then question["x-lease-renews"] = old.id .. "=" .. old.left end
  local ended, texts = takeEnded(now)
  if #texts > 0 then question["x-lease-ended"] = table.concat(texts, ",") end
  heat.asked = now
  local answer = h:httpCall(config.cluster, question, "", config.timeoutMs)
  heat.asked = false
  if answer and answer[":status"] == "200" then return answer end
  -- It may not have been heard; told twice it counts once.
  for _, lease in pairs(ended) do remember(lease) end
  return nil
end

-- Keeps what was answered to a question of the time `asked`. Returns the region of the request, where there is one now.
local function keep(answer, asked, who, key, heat, now)
  if not answer then
    heat.quietTill = now + config.quietMs
    return nil
  end
  local answered, number = answer["x-lease-epoch"], tonumber(answer["x-lease-sequence"])
  local id, lease = answer["x-lease-id"], nil
  if id then
    local calls, ms = tonumber(answer["x-lease-calls"]), tonumber(answer["x-lease-ms"])
    lease = {
      id = id,
      mark = id .. "#",
      calls = calls,
      left = calls,
      -- The next one is asked for from here on, so that no burst finds nothing.
      few = calls / 2,
      soon = asked + ms - math.min(config.renewMs, ms / 4),
      till = asked + ms,
      dst = answer["x-lease-dst"],
      over = false,
    }
  end
  if answered == epoch and number < sequence or now < asked then
    -- Overtaken by a newer policy, or by a clock that was set back: nothing of it is used.
    if lease then
      lease.over = true
      remember(lease)
    end
    return nil
  end
  if answered ~= epoch or number > sequence or peerCount >= config.peersMax or classCount >= config.classesMax then
    epoch, sequence = answered, number
    forget()
  end
  if lease then remember(lease) end
  local name = answer["x-lease-for"]
  if not name then
    heat.quietTill = now + (tonumber(answer["x-lease-quiet-ms"]) or config.quietMs)
    return nil
  end
  local principal = principals[name]
  if not principal then
    principal = {}
    principals[name] = principal
  end
  if peers[who] ~= principal then
    if peers[who] ~= nil then
      -- A connection that turns out to be somebody else's must not go on by a shortcut.
      peers, peerCount = {}, 0
      shortcuts, shortcutCount = {}, 0
    end
    peers[who] = principal
    peerCount = peerCount + 1
  end
  local class = principal[key]
  if not class then
    class = { regions = {}, count = 0, heat = newHeat() }
    principal[key] = class
    classCount = classCount + 1
  end
  local path, exact = answer["x-lease-path"], answer["x-lease-exact"] == "1"
  local slot = (exact and "=" or "^") .. path
  local region = class.regions[slot]
  if not region then
    if class.count >= config.regionsMax then
      class.regions, class.count = {}, 0
      shortcuts, shortcutCount = {}, 0
    end
    region = { path = path, exact = exact, heat = newHeat(), lease = nil }
    class.regions[slot] = region
    class.count = class.count + 1
    -- Where every path is a region of its own, not every path is worth a lease.
    class.heat.quietTill = now + config.quietMs
  end
  if lease then
    if region.lease then region.lease.over = true end
    region.lease = lease
  elseif not isGood(region.lease, now) then
    -- One is out, and it is not here.
    region.heat.quietTill = now + config.quietMs
  end
  return region
end

-- A request whose region is known.
local function within(h, region, who, key, now)
  local lease = region.lease
  local good = lease and not lease.over and lease.left > 0 and now < lease.till
  if good and lease.left > lease.few and now < lease.soon then return use(h, lease) end
  local heat = region.heat
  if (good or isBusy(heat, now)) and mayAsk(heat, now) then
    local answer = ask(h, heat, now, lease)
    local after = timeOf(h)
    lease = (keep(answer, now, who, key, heat, after) or region).lease
    good = isGood(lease, after)
  elseif not good then
    tellEnded(h, now)
  end
  -- Taken only now: what waits for an answer must not leave by a lease that has ended meanwhile.
  if good then use(h, lease) end
end

function envoy_on_request(h)
  local hd = h:headers()
  local text = hd:get("x-sallyport-class")
  local now = timeOf(h)
  local short = shortcuts[text]
  if short then return within(h, short.region, short.who, short.key, now) end

  -- It is for this filter alone; the check and the destination have the parts.
  hd:remove("x-sallyport-class")
  local who = hd:get("x-sallyport-connection")
  local credential = hd:get("proxy-authorization")
  if credential then who = who .. "\n" .. credential end
  local target = hd:get(":path")
  local key = hd:get(":method") .. " " .. hd:get(":authority")
  if #who + #key + #target > config.textBytesMax then return end
  local principal = peers[who]
  local class = principal and principal[key]
  local region = class and regionOf(class, target)
  if region then
    -- It says nothing of the credential beyond its first letters.
    if not credential then
      if shortcutCount >= config.shortcutsMax then
        shortcuts, shortcutCount = {}, 0
      end
      shortcuts[text] = { region = region, who = who, key = key }
      shortcutCount = shortcutCount + 1
    end
    return within(h, region, who, key, now)
  end
  local heat = class and class.heat or heatOf(who, key)
  if not isBusy(heat, now) or not mayAsk(heat, now) or not isPlain(target) then return tellEnded(h, now) end
  local answer = ask(h, heat, now, nil)
  local after = timeOf(h)
  local found = keep(answer, now, who, key, heat, after)
  if found and isGood(found.lease, after) then use(h, found.lease) end
end
