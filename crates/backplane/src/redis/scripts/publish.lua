-- PUBLISH: the channel's key; topic, payload (a JSON object), ttl ms -> receivers
-- For events that a cache channel keeps. Each gets a number that grows, so that nodes know what they have told; it begins at
-- the time in microseconds, and so does not fall back when the key expires. O(1) and the PUBLISH.
local key = KEYS[1]
if redis.call('EXISTS', key) == 0 then
  local time = redis.call('TIME')
  redis.call('HSET', key, 'n', string.format('%.0f', time[1] * 1000000 + time[2]))
end
local number = redis.call('HINCRBY', key, 'n', 1)
local payload = string.sub(ARGV[2], 1, -2) .. ',"kept":' .. string.format('%.0f', number) .. '}'
redis.call('HSET', key, 'd', payload)
redis.call('PEXPIRE', key, ARGV[3])
return redis.call('PUBLISH', ARGV[1], payload)
