-- PUBLISH: S, AC, topic, payload (a JSON object), most events kept, ms for which they are kept, run id of the server, candidate for an epoch,
--   quiet ms -> receivers
-- An event of a channel that keeps a history: it gets the next number, is kept, and is published with both. Numbers of one epoch count up by
-- one; where they begin anew they begin at the time in microseconds, so that none ever repeats, whatever was evicted, expired or restored from
-- before. A server that may not write (out of memory) still delivers, without a number; then nothing is kept that would hide the
-- hole. Who publishes may be the first to see a fresh server: it notes that, as HELLO does. O(1) and the PUBLISH.
local S, ac, topic, payload = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local size, ttl, run = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local g, head, log = S .. ':g', S .. ':hm:' .. ac, S .. ':h:' .. ac
local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function digits(number)
  return string.format('%.0f', number)
end

local function keep()
  local function try(...)
    local answer = redis.pcall(...)
    return not (type(answer) == 'table' and answer.err)
  end
  local known = redis.call('HMGET', g, 'e', 'run')
  local epoch = known[1]
  if not epoch or known[2] ~= run then
    epoch = ARGV[8]
    if not try('HSET', g, 'e', epoch, 'run', run, 'nb', digits(ms + ARGV[9])) then
      return
    end
  end
  local last = redis.call('HMGET', head, 'e', 's')
  local top = tonumber(last[2]) or 0
  if last[1] ~= epoch then
    top = math.max(top, time[1] * 1000000 + time[2])
  end
  local offset = digits(top + 1)
  local numbered = string.sub(payload, 1, -2) .. ',"epoch":"' .. epoch .. '","offset":' .. offset .. '}'
  if last[1] ~= epoch then
    redis.call('DEL', head)
  end
  if try('HSET', head, 'e', epoch, 's', offset)
    and try('XADD', log, 'MAXLEN', '=', size, offset .. '-0', 't', digits(ms), 'd', numbered) then
    redis.call('PEXPIRE', log, ttl)
    redis.call('EXPIRE', head, 172800)
    return numbered
  end
end

local numbered = keep()
if not numbered then
  -- A server that takes no writes at all takes this one neither.
  redis.pcall('DEL', head, log)
end
return redis.call('PUBLISH', topic, numbered or payload)
