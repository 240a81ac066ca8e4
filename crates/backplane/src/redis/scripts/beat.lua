-- BEAT: S, incarnation, gap ms, quiet ms, ttl ms, (app, connections, WANTS, 1 when this node can tell its webhooks) of each
--   app -> OK, the dead, living nodes, jobs lost, (connections, 1 when this one tells the webhooks) of each app | FENCED
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

local told = {}
for place = 6, #ARGV, 4 do
  local app, n, set = ARGV[place], tonumber(ARGV[place + 1]), ARGV[place + 2]
  local key, sum = S .. ':n:' .. app, 0
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
  local late = S .. ':late:' .. app
  -- "-": an app that is gone from this node, whose ends are left to the nodes that know it.
  local due = set == '-' and {} or redis.call('ZRANGEBYSCORE', late, '-inf', digits(now), 'LIMIT', 0, 500)
  for _, entry in ipairs(due) do
    local letter, ac, user = string.match(entry, '^(%a)|(.-)|(.*)$')
    redis.call('ZREM', late, entry)
    if wants(set, letter) then
      job(ac, letter, 'u', user)
    end
  end
  local field = 'lead:' .. app
  local leader = redis.call('HGET', g, field)
  if ARGV[place + 3] == '1' then
    local score = leader and alive(leader)
    if not score or now - score > ttl then
      leader = inc
      redis.call('HSET', g, field, inc)
    end
  elseif leader == inc then
    leader = nil
    redis.call('HDEL', g, field)
  end
  told[#told + 1] = sum
  told[#told + 1] = leader == inc and 1 or 0
end

local dead = redis.call('SMEMBERS', S .. ':dead')
if removals_in(now) == 0 then
  local silent = redis.call('ZRANGEBYSCORE', S .. ':nodes', '-inf', '(' .. digits(now - ttl), 'LIMIT', 0, 10)
  for _, other in ipairs(silent) do
    dead[#dead + 1] = other
  end
end
local lost = tonumber(redis.call('HGET', g, 'lost') or 0)
return {'OK', dead, redis.call('ZCARD', S .. ':nodes'), lost, told}
