-- HELLO: S, incarnation, candidate for an epoch, run id known so far or '', quiet ms -> OK | RENEW, run id, epoch
-- Registers an incarnation, and begins a new epoch when the data are new or the server is another: a version must never
-- repeat under one epoch. RENEW: the data or this incarnation were lost; come back with a new one.
-- O(log nodes).
local inc, candidate, known, quiet = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local now, g = clock(), S .. ':g'
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
if redis.call('HSETNX', g, 'e', candidate) == 1 then
  redis.call('HSET', g, 'run', run, 'any', digits(now), 'nb', digits(now + quiet))
elseif redis.call('HGET', g, 'run') ~= run then
  redis.call('HSET', g, 'run', run, 'e', candidate, 'nb', digits(now + quiet))
end
if known ~= '' and (known ~= run or not alive(inc)) then
  return {'RENEW', run}
end
redis.call('ZADD', S .. ':nodes', digits(now), inc)
return {'OK', run, redis.call('HGET', g, 'e')}
