-- NOTE: S, AC, epoch, number -> OK
-- Something without a number (a plain PUBLISH) was heard behind this number: who comes back from there cannot be told all that he
-- missed. Where that cannot be written down, the numbers begin anew, which says the same. O(1).
local ac, epoch, number = ARGV[2], ARGV[3], tonumber(ARGV[4])
local head = S .. ':hm:' .. ac
local known = redis.call('HMGET', head, 'e', 'u')
if known[1] == epoch and (tonumber(known[2]) or -1) < number then
  local written = redis.pcall('HSET', head, 'u', digits(number))
  if type(written) == 'table' and written.err then
    redis.pcall('DEL', head, S .. ':h:' .. ac)
  end
end
return {'OK'}
