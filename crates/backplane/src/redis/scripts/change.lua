-- Head of the scripts that read or change a roster. ARGV[1] is S, what all keys begin with; a script names one key in
-- KEYS, so that it is run where all of them are. A script checks, then writes, then publishes: there is no roll-back.
local S = ARGV[1]
local DAY = 86400

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
local function release(ac, user)
  if redis.call('HINCRBY', S .. ':u:' .. ac, user, -1) <= 0 then
    redis.call('HDEL', S .. ':u:' .. ac, user)
    redis.call('HDEL', S .. ':i:' .. ac, user)
    emit(ac, 'left', user, '')
  end
end
