-- MISSED: S, AC, WANTS, ms -> OK
-- Somebody was given nothing from a cache channel: told once in so many ms, and not when it was filled meanwhile. O(1).
local ac, set, every = ARGV[2], ARGV[3], tonumber(ARGV[4])
if wants(set, 'm') and redis.call('EXISTS', S .. ':last:' .. ac) == 0
  and redis.call('SET', S .. ':miss:' .. ac, '1', 'PX', every, 'NX') then
  job(ac, 'm')
end
return {'OK'}
