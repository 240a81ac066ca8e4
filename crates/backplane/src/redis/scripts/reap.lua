-- REAP: S, dead incarnation, ttl ms, most users -> channels left or -1, users removed
-- Fences an incarnation that is silent for too long, then takes its users out, some a call. May be called by all at once.
local dead, ttl, limit = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local now = clock()
local score = alive(dead)
if score then
  if removals_in(now) > 0 or now - score <= ttl then
    return {-1, 0}
  end
  redis.call('ZREM', S .. ':nodes', dead)
  redis.call('SADD', S .. ':dead', dead)
elseif redis.call('SISMEMBER', S .. ':dead', dead) == 0 then
  return {0, 0}
end
local index, removed = S .. ':pidx:' .. dead, 0
while removed < limit do
  local ac = redis.call('SRANDMEMBER', index)
  if not ac then
    break
  end
  local user = redis.call('SPOP', S .. ':pn:' .. ac .. ':' .. dead)
  if user then
    release(ac, user)
    removed = removed + 1
  else
    redis.call('SREM', index, ac)
  end
end
local left = redis.call('SCARD', index)
if left == 0 then
  redis.call('SREM', S .. ':dead', dead)
end
return {left, removed}
