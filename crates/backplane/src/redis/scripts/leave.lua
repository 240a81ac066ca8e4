-- LEAVE: S, incarnation, AC, user, WANTS, webhook delay ms -> OK | FENCED
-- The user is no longer present through this incarnation; a repetition changes nothing. O(1).
local inc, ac, user = ARGV[2], ARGV[3], ARGV[4]
if not alive(inc) then
  return {'FENCED'}
end
local mine = S .. ':pn:' .. ac .. ':' .. inc
if redis.call('SREM', mine, user) == 1 then
  if redis.call('EXISTS', mine) == 0 then
    redis.call('SREM', S .. ':pidx:' .. inc, ac)
  end
  release(ac, user, ARGV[5], tonumber(ARGV[6]))
end
return {'OK'}
