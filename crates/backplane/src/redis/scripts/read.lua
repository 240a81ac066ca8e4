-- READ: S, AC, 1 to begin the numbers where there are none, after or '', before or '', 1 for the newest first, most entries, most bytes,
--   age in ms of the oldest or 0 for any -> OK, epoch, last number or 0, noted number or '', entries: number, age in ms, payload in turn,
--   1 when there were too many bytes
-- What the channel's history holds behind one number and before another. "Noted": behind that number something without one was
-- said last (see NOTE). O(entries).
local ac, first, after, before, newest = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1'
local most, bytes, oldest = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local epoch, top, noted = log_head(ac, first == '1')
local now, entries, cut = clock(), {}, 0
local from, to = after == '' and '-' or '(' .. after .. '-0', before == '' and '+' or '(' .. before .. '-0'
while most > 0 do
  local part
  if newest then
    part = redis.call('XREVRANGE', S .. ':h:' .. ac, to, from, 'COUNT', math.min(most, 100))
  else
    part = redis.call('XRANGE', S .. ':h:' .. ac, from, to, 'COUNT', math.min(most, 100))
  end
  for _, entry in ipairs(part) do
    local age, payload = math.max(0, now - entry[2][2]), entry[2][4]
    bytes = bytes - #payload
    if bytes < 0 then
      most, cut = 0, 1
      break
    end
    if oldest == 0 or age < oldest then
      entries[#entries + 1] = string.match(entry[1], '^%d+')
      entries[#entries + 1] = digits(age)
      entries[#entries + 1] = payload
    end
  end
  if #part < 100 or most <= 0 then
    break
  end
  most = most - #part
  if newest then
    to = '(' .. part[#part][1]
  else
    from = '(' .. part[#part][1]
  end
end
return {'OK', epoch, digits(top), noted, entries, cut}
