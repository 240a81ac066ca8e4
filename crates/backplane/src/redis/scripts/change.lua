-- Head of the scripts that change what is kept of channels. ARGV[1] is S, what all keys begin with; a script names one key
-- in KEYS, so that it is run where all of them are. A script checks, then writes, then publishes: there is no roll-back.
-- AC is the app's id and the channel's name, both percent-encoded, with a colon between. WANTS is a text of letters: what
-- the app's webhooks want to hear of (o occupied, v vacated, a added, r removed, m missed, c counted; e: its client events),
-- and s when subscribers are told of their number.
local S = ARGV[1]
local DAY = 86400
-- Jobs that may wait for an app's webhooks, and with how many no client event is queued any more: those are large.
local JOBS_MAX, CLIENT_EVENT_JOBS_MAX = 100000, 10000
-- Above so many subscriptions their number is told once in so many ms.
local LARGE, LARGE_EVERY = 100, 5000

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function digits(number)
  return string.format('%.0f', number)
end

local function alive(inc)
  return redis.call('ZSCORE', S .. ':nodes', inc)
end

-- For how long from now nobody may be taken for gone, in ms.
local function removals_in(now)
  return math.max(0, tonumber(redis.call('HGET', S .. ':g', 'nb') or 0) - now)
end

local function wants(set, letter)
  return string.find(set, letter, 1, true) ~= nil
end

local function app_of(ac)
  return string.match(ac, '^(.-):')
end

-- Queues a happening for the app's webhooks: k its letter, c the channel, t the time in ms, and what belongs to it.
local function job(ac, letter, ...)
  local app, channel = string.match(ac, '^(.-):(.*)$')
  local key = S .. ':wh:' .. app
  if redis.call('XLEN', key) >= (letter == 'e' and CLIENT_EVENT_JOBS_MAX or JOBS_MAX) then
    redis.call('HINCRBY', S .. ':g', 'lost', 1)
  else
    redis.call('XADD', key, '*', 'k', letter, 'c', channel, 't', digits(clock()), ...)
    redis.call('EXPIRE', key, DAY)
  end
end

-- Something began: told, unless its end waits to be told, or it only begins again in data that were lost.
local function began(ac, letter, ended, user, set, again)
  local entry = ended .. '|' .. ac .. '|' .. user
  if redis.call('ZREM', S .. ':late:' .. app_of(ac), entry) == 0 and wants(set, letter) and again ~= '1' then
    job(ac, letter, 'u', user)
  end
end

-- Something ended: told after the delay, unless it begins again within.
local function ends(ac, letter, user, set, delay)
  if wants(set, 'o') or wants(set, 'v') or wants(set, 'a') or wants(set, 'r') then
    local key = S .. ':late:' .. app_of(ac)
    redis.call('ZADD', key, digits(clock() + delay), letter .. '|' .. ac .. '|' .. user)
    redis.call('EXPIRE', key, DAY)
  end
end

-- The roster's version. One that begins, begins at the time: a number never repeats under one epoch, not even when this
-- key was evicted or its TTL ended.
local function version(ac)
  local key = S .. ':v:' .. ac
  local epoch = redis.call('HGET', S .. ':g', 'e') or ''
  if redis.call('HGET', key, 'e') ~= epoch then
    redis.call('HSET', key, 'e', epoch, 'v', digits(clock()))
    redis.call('EXPIRE', key, DAY)
  end
  return epoch, redis.call('HGET', key, 'v')
end

-- The channel's history: its epoch ('': the data are lost, and no node has been there since), last number (0: none) and noted number ('': none). `first`: numbers begin here where there are
-- none of this epoch, so that whoever comes now can say later where he stood.
local function log_head(ac, first)
  local head = S .. ':hm:' .. ac
  local epoch = redis.call('HGET', S .. ':g', 'e') or ''
  local known = redis.call('HMGET', head, 'e', 's', 'u')
  if known[1] == epoch then
    redis.call('EXPIRE', head, 2 * DAY)
    return epoch, tonumber(known[2]) or 0, known[3] or ''
  end
  if not first or epoch == '' then
    return epoch, 0, ''
  end
  -- The next millisecond's first: above all that PUBLISH can have given in this one.
  local number = math.max((clock() + 1) * 1000, (tonumber(known[2]) or 0) + 1)
  redis.call('DEL', head)
  local written = redis.pcall('HSET', head, 'e', epoch, 's', digits(number))
  if type(written) == 'table' and written.err then
    return epoch, 0, ''
  end
  redis.call('EXPIRE', head, 2 * DAY)
  return epoch, number, ''
end

local function refresh(ac)
  redis.call('EXPIRE', S .. ':u:' .. ac, DAY)
  redis.call('EXPIRE', S .. ':i:' .. ac, DAY)
  redis.call('EXPIRE', S .. ':v:' .. ac, DAY)
end

-- Always the last thing that a change does.
local function emit(ac, kind, user, info)
  local epoch = version(ac)
  local key = S .. ':v:' .. ac
  local number = redis.call('HINCRBY', key, 'v', 1)
  refresh(ac)
  local topic = redis.call('HGET', key, 't')
  if topic then
    local data = '{"k":"' .. kind .. '","u":' .. cjson.encode(user) .. ',"i":' .. (info ~= '' and info or 'null')
      .. ',"e":' .. cjson.encode(epoch) .. ',"n":' .. digits(number) .. '}'
    redis.call('PUBLISH', topic, '{"event":"fanfare:roster","data":' .. data .. ',"socket":null,"v":1}')
  end
  return epoch, digits(number)
end

-- The user is no longer present through one incarnation: gone when it was the last.
local function release(ac, user, set, delay)
  if redis.call('HINCRBY', S .. ':u:' .. ac, user, -1) <= 0 then
    redis.call('HDEL', S .. ':u:' .. ac, user)
    redis.call('HDEL', S .. ':i:' .. ac, user)
    ends(ac, 'r', user, set, delay)
    emit(ac, 'left', user, '')
  end
end

-- One incarnation has n subscriptions of the channel. Returns how many there are in all.
local function set_count(inc, ac, n, set, delay, again)
  local key, index = S .. ':c:' .. ac, S .. ':idx:' .. inc
  local before, after = redis.call('EXISTS', key), 0
  if n > 0 then
    redis.call('HSET', key, inc, n)
    redis.call('EXPIRE', key, DAY)
    redis.call('SADD', index, ac)
    redis.call('EXPIRE', index, DAY)
  else
    redis.call('HDEL', key, inc)
    redis.call('SREM', index, ac)
  end
  for _, part in ipairs(redis.call('HVALS', key)) do
    after = after + part
  end
  local app, channel = string.match(ac, '^(.-):(.*)$')
  local all = S .. ':a:' .. app
  if after > 0 then
    redis.call('HSET', all, channel, after)
    redis.call('EXPIRE', all, DAY)
  else
    redis.call('HDEL', all, channel)
  end
  if before == 0 and after > 0 then
    began(ac, 'o', 'v', '', set, again)
  elseif before == 1 and after == 0 then
    ends(ac, 'v', '', set, delay)
  end
  return after
end

-- Tells the subscribers and the webhooks how many there are, where one of them wants it. Returns 1 when it is too early,
-- which nothing is for who cannot come again.
local function tell_count(ac, topic, after, set, now_or_never)
  local key = S .. ':p:' .. ac
  local last = redis.call('HMGET', key, 'n', 'at')
  if after == 0 and not last[1] or last[1] == digits(after) then
    return 0
  end
  local now = clock()
  if after > LARGE and last[2] and now - last[2] < LARGE_EVERY and not now_or_never then
    return 1
  end
  if after == 0 then
    redis.call('DEL', key)
  else
    redis.call('HSET', key, 'n', digits(after), 'at', digits(now), 't', topic, 'w', set)
    redis.call('EXPIRE', key, DAY)
  end
  if wants(set, 'c') then
    job(ac, 'c', 'n', digits(after))
  end
  if wants(set, 's') then
    redis.call('PUBLISH', topic, '{"event":"fanfare:count","data":' .. digits(after) .. ',"socket":null,"v":1}')
  end
  return 0
end
