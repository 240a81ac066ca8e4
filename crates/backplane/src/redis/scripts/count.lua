-- COUNT: S, incarnation, AC, topic, n, announce 0 or 1, WANTS, webhook delay ms, 1 when it stood here in data that were lost -> OK, 1 when the number is to be announced
--   by a further call, else 0 | FENCED
-- This incarnation has n subscriptions of the channel; a repetition changes nothing. O(nodes of the channel).
local inc, ac, topic, n, announce = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local set, delay = ARGV[7], tonumber(ARGV[8])
if not alive(inc) then
  return {'FENCED'}
end
local after = set_count(inc, ac, n, set, delay, ARGV[9])
if not (wants(set, 's') or wants(set, 'c')) then
  return {'OK', 0}
end
if announce == '0' then
  return {'OK', 1}
end
return {'OK', tell_count(ac, topic, after, set, n == 0)}
