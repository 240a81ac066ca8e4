-- BEAT: S, incarnation, gap ms, quiet ms, ttl ms, leads 0 or 1, (app, connections, WANTS) of each app that has either
--   -> OK, the dead, living nodes, 1 when this one tells the webhooks, jobs lost, connections of each app | FENCED
-- Says that this incarnation lives. After a time in which nobody said so, nobody is taken for dead for a while. Ends whose
-- time has come are queued for the webhooks, by whoever comes first. O(log nodes + the apps' nodes).
local inc, gap, quiet, ttl = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not alive(inc) then
  return {'FENCED'}
end
local now, g = clock(), S .. ':g'
if now - tonumber(redis.call('HGET', g, 'any') or 0) > gap then
  redis.call('HSET', g, 'nb', digits(now + quiet))
end
redis.call('HSET', g, 'any', digits(now))
redis.call('ZADD', S .. ':nodes', digits(now), inc)

local sums, set_of = {}, {}
for place = 7, #ARGV, 3 do
  local app, n = ARGV[place], tonumber(ARGV[place + 1])
  local key, sum = S .. ':n:' .. app, 0
  set_of[app] = ARGV[place + 2]
  if n > 0 then
    redis.call('SADD', S .. ':apps', app)
    redis.call('HSET', key, inc, n)
    redis.call('EXPIRE', key, DAY)
  else
    redis.call('HDEL', key, inc)
  end
  for _, part in ipairs(redis.call('HVALS', key)) do
    sum = sum + part
  end
  sums[#sums + 1] = sum
end

for _, entry in ipairs(redis.call('ZRANGEBYSCORE', S .. ':late', '-inf', digits(now), 'LIMIT', 0, 500)) do
  local letter, ac, user = string.match(entry, '^(%a)|(.-)|(.*)$')
  local set = set_of[app_of(ac)]
  -- An app that this node does not know is left to the nodes that do.
  if set then
    redis.call('ZREM', S .. ':late', entry)
    if wants(set, letter) then
      job(ac, letter, 'u', user)
    end
  end
end
redis.call('ZREMRANGEBYSCORE', S .. ':late', '-inf', digits(now - 3600000))

local leader = redis.call('HGET', g, 'lead')
if ARGV[6] == '1' then
  local score = leader and alive(leader)
  if not score or now - score > ttl then
    leader = inc
    redis.call('HSET', g, 'lead', inc)
  end
elseif leader == inc then
  redis.call('HDEL', g, 'lead')
end

local dead = redis.call('SMEMBERS', S .. ':dead')
if removals_in(now) == 0 then
  local silent = redis.call('ZRANGEBYSCORE', S .. ':nodes', '-inf', '(' .. digits(now - ttl), 'LIMIT', 0, 10)
  for _, other in ipairs(silent) do
    dead[#dead + 1] = other
  end
end
local lost = tonumber(redis.call('HGET', g, 'lost') or 0)
return {'OK', dead, redis.call('ZCARD', S .. ':nodes'), leader == inc and 1 or 0, lost, sums}
