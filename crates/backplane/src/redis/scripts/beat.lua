-- BEAT: S, incarnation, gap ms, quiet ms, ttl ms -> OK, the dead | FENCED
-- Says that this incarnation lives. After a time in which nobody said so, nobody is taken for dead for a while.
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
local dead = redis.call('SMEMBERS', S .. ':dead')
if removals_in(now) == 0 then
  local silent = redis.call('ZRANGEBYSCORE', S .. ':nodes', '-inf', '(' .. digits(now - ttl), 'LIMIT', 0, 10)
  for _, other in ipairs(silent) do
    dead[#dead + 1] = other
  end
end
return {'OK', dead}
