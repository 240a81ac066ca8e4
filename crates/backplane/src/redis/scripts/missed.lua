-- MISSED: S, AC, WANTS, ms, age in ms from which an event counts as gone -> OK
-- Somebody was given nothing from a cache channel: told once in so many ms, and not when it was filled meanwhile. O(1).
local ac, set, every, gone = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local last = redis.call('XREVRANGE', S .. ':h:' .. ac, '+', '-', 'COUNT', 1)[1]
if wants(set, 'm') and not (last and clock() - last[2][2] < gone)
  and redis.call('SET', S .. ':miss:' .. ac, '1', 'PX', every, 'NX') then
  job(ac, 'm')
end
return {'OK'}
