-- PUBLISH: the channel's key; topic, payload (a JSON object), ttl ms -> receivers
-- For events that a cache channel keeps. Each gets a number that grows, so that nodes know what they have told: the time in
-- microseconds, or one more than the last. So it does not fall back when the key expires or the server was restored from
-- before. A server that may not write (out of memory) still delivers; then nothing is kept. O(1) and the PUBLISH.
local key, payload = KEYS[1], ARGV[2]
local time = redis.call('TIME')
local number = math.max(time[1] * 1000000 + time[2], (tonumber(redis.call('HGET', key, 'n')) or 0) + 1)
local digits = string.format('%.0f', number)
local kept = string.sub(payload, 1, -2) .. ',"kept":' .. digits .. '}'
local written = redis.pcall('HSET', key, 'n', digits, 'd', kept)
if type(written) == 'table' and written.err then
  redis.pcall('DEL', key)
  return redis.call('PUBLISH', ARGV[1], payload)
end
redis.call('PEXPIRE', key, ARGV[3])
return redis.call('PUBLISH', ARGV[1], kept)
