-- CACHED: S, AC -> OK, payload or nil, ttl ms
-- What a cache channel holds. O(1).
local key = S .. ':last:' .. ARGV[2]
return {'OK', redis.call('HGET', key, 'd'), redis.call('PTTL', key)}
