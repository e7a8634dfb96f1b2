-- Drop the reports that no replica renewed: their pods are gone.
-- KEYS reports   ARGV age in ms
-- Returns how many went.
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
local fields, gone = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #fields, 2 do
  local at = tonumber(string.match(fields[i + 1], '^(%d+):') or '0')
  if at < oldest then
    redis.call('HDEL', KEYS[1], fields[i])
    gone = gone + 1
  end
end
return gone
