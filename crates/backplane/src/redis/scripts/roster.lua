-- ROSTER: S, AC -> OK, epoch, number, removals in ms, roster
-- All users of the channel, and the version at which they stand. O(members).
local ac = ARGV[2]
local epoch, number = version(ac)
return {'OK', epoch, number, removals_in(clock()), redis.call('HGETALL', S .. ':i:' .. ac)}
