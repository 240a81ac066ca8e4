-- REPORT: S, AC, event, data, socket, user or '' -> OK
-- Queues a client event for the app's webhooks. O(1).
local ac = ARGV[2]
job(ac, 'e', 'ev', ARGV[3], 'd', ARGV[4], 's', ARGV[5], 'u', ARGV[6])
return {'OK'}
