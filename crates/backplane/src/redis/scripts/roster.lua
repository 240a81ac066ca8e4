-- ROSTER: S, AC -> OK, epoch, number, removals in ms, roster | FENCED
-- All users of the channel, and the version at which they stand. Not of data
-- that were just lost: nobody has told them anything yet. O(members).
local ac = ARGV[2]
if redis.call('EXISTS', S .. ':g') == 0 then
  return {'FENCED'}
end
local epoch, number = version(ac)
return {'OK', epoch, number, removals_in(clock()), redis.call('HGETALL', S .. ':i:' .. ac)}
