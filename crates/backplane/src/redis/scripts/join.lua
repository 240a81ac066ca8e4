-- JOIN: S, incarnation, AC, topic, user, info, known epoch, known number, most members or 0, WANTS, 1 when he stood here in data that were lost
--   -> OK, epoch, number, added, removals in ms, roster or nil | FULL | FENCED
-- The user is present through this incarnation; a repetition changes nothing. The roster comes unless the known version is
-- what stood here before, or the epoch given is '*'. O(1), with the roster O(members).
local inc, ac, topic, user, info, max = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[9])
if not alive(inc) then
  return {'FENCED'}
end
local users, infos, mine = S .. ':u:' .. ac, S .. ':i:' .. ac, S .. ':pn:' .. ac .. ':' .. inc
local is_new = redis.call('HEXISTS', users, user) == 0
if is_new and max > 0 and redis.call('HLEN', users) >= max then
  return {'FULL'}
end
local epoch, number = version(ac)
local known = ARGV[7] == '*' or (ARGV[7] == epoch and ARGV[8] == number)
local added = 0
redis.call('HSET', S .. ':v:' .. ac, 't', topic)
redis.call('SADD', S .. ':pidx:' .. inc, ac)
redis.call('EXPIRE', S .. ':pidx:' .. inc, DAY)
local registered = redis.call('SADD', mine, user)
redis.call('EXPIRE', mine, DAY)
if registered == 1 and redis.call('HINCRBY', users, user, 1) == 1 then
  redis.call('HSET', infos, user, info)
  began(ac, 'a', 'r', user, ARGV[10], ARGV[11])
  epoch, number = emit(ac, 'joined', user, info)
  added = 1
else
  -- It may have been evicted alone.
  redis.call('HSETNX', infos, user, info)
  refresh(ac)
end
local answer = {'OK', epoch, number, added, removals_in(clock())}
if not known then
  answer[6] = redis.call('HGETALL', infos)
end
return answer
