-- READ: S, AC, 1 to begin the numbers where there are none, after or '', before or '', 1 for the newest first, most entries, most bytes,
--   age in ms of the oldest or 0 for any -> OK, epoch, last number or 0, noted number or '', entries: number, age in ms, payload in turn,
--   1 when there were too many bytes
-- What the channel's history holds behind one number and before another. "Noted": behind that number something without one was
-- said last (see NOTE). O(entries).
local ac, first, after, before, newest = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1'
local most, bytes, oldest = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
-- Entries of one look.
local STEP = newest and math.min(most, 100) or 100
local epoch, top, noted = log_head(ac, first == '1')
local now, entries, cut = clock(), {}, 0
local from, to = after == '' and '-' or '(' .. after .. '-0', before == '' and '+' or '(' .. before .. '-0'
-- Before 0 there is nothing, and Redis takes that for a mistake.
local done = before == '0'
while not done do
  local command = newest and 'XREVRANGE' or 'XRANGE'
  local part = redis.call(command, S .. ':h:' .. ac, newest and to or from, newest and from or to, 'COUNT', STEP)
  done = #part < STEP
  for _, entry in ipairs(part) do
    local age, payload = math.max(0, now - entry[2][2]), entry[2][4]
    if oldest == 0 or age < oldest then
      bytes, most = bytes - #payload, most - 1
      if bytes < 0 or most < 0 then
        cut, done = bytes < 0 and 1 or 0, true
        break
      end
      entries[#entries + 1] = string.match(entry[1], '^%d+')
      entries[#entries + 1] = digits(age)
      entries[#entries + 1] = payload
    elseif newest then
      -- What is behind it is older.
      done = true
      break
    end
  end
  if not done then
    local last = '(' .. part[#part][1]
    from, to = newest and from or last, newest and last or to
  end
end
return {'OK', epoch, digits(top), noted, entries, cut}
