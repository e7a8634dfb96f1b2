-- Delete the keys that hold another type than they should. A stream that has reached the last possible id is one, too:
-- it takes no entry any more.
-- KEYS any   ARGV the type of each
-- Returns the names of the keys deleted.
local gone = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  local bad = kind ~= 'none' and kind ~= ARGV[i]
  if kind == 'stream' and not bad then
    local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
    bad = last ~= nil and string.sub(last[1], 1, 18) == '184467440737095516'
  end
  if bad then
    redis.call('UNLINK', key)
    gone[#gone + 1] = key
  end
end
return gone
