-- REAP: S, dead incarnation, ttl ms or '' to retire it, most users, webhook delay ms, (app, WANTS) of each app with webhooks
--   -> what is left or -1, users removed
-- Fences an incarnation that is silent for too long, or that its own node has replaced, then takes out its users, its counts
-- and its connections, some a call. May be called by all at once. O(most users + apps).
local dead, ttl, limit, delay = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local now = clock()
local score = alive(dead)
if score then
  if ttl and (removals_in(now) > 0 or now - score <= ttl) then
    return {-1, 0}
  end
  redis.call('ZREM', S .. ':nodes', dead)
  redis.call('SADD', S .. ':dead', dead)
elseif redis.call('SISMEMBER', S .. ':dead', dead) == 0 then
  return {0, 0}
end
local set_of = {}
for place = 6, #ARGV, 2 do
  set_of[ARGV[place]] = ARGV[place + 1]
end
for _, app in ipairs(redis.call('SMEMBERS', S .. ':apps')) do
  redis.call('HDEL', S .. ':n:' .. app, dead)
end
-- What an app wants that this node does not know is sorted out by the nodes that do.
local UNKNOWN = 'ovar'
local index, counts = S .. ':pidx:' .. dead, S .. ':idx:' .. dead
local removed, steps = 0, 0

-- Takes one step after the other at any channel of a set, while there is one and the limit allows.
local function work_off(set, step)
  while steps < limit do
    local ac = redis.call('SRANDMEMBER', set)
    if not ac then
      break
    end
    steps = steps + 1
    step(ac)
  end
end

work_off(index, function(ac)
  local user = redis.call('SPOP', S .. ':pn:' .. ac .. ':' .. dead)
  if user then
    -- Channels of users are nobody's webhook.
    local set = string.find(ac, ':#', 1, true) and '' or set_of[app_of(ac)] or UNKNOWN
    release(ac, user, set, delay)
    removed = removed + 1
  else
    redis.call('SREM', index, ac)
  end
end)
work_off(counts, function(ac)
  local after = set_count(dead, ac, 0, set_of[app_of(ac)] or UNKNOWN, delay)
  local told = redis.call('HMGET', S .. ':p:' .. ac, 't', 'w')
  if told[1] then
    tell_count(ac, told[1], after, told[2], true)
  end
end)
local left = redis.call('SCARD', index) + redis.call('SCARD', counts)
if left == 0 then
  redis.call('SREM', S .. ':dead', dead)
end
return {left, removed}
