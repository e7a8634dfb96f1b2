-- All that a replica noted since its last flush, in one exchange: stored in its keys and published to the others.
-- KEYS tokens, own inflight, log, reports
-- ARGV  1 replica, 2 token, 3 channel, 4 share ttl ms, 5 log entries, 6 log ttl ms, 7 report ttl ms,
--       8 standing, 9 '1' to start over, 10 message, 11 log entry or '', 12 how many arguments set numbers,
--       13 how many pods are dropped; then pod, numbers ...; pod ...; and for the rest pod, report ...
-- Returns 1, or 0 if the lease is gone: then nothing was done.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
local HEAD, STEP = 13, 1000  -- unpack() takes some 8,000 values at most

local function each(command, key, first, last)
  for i = first, last, STEP do
    redis.call(command, key, unpack(ARGV, i, math.min(i + STEP - 1, last)))
  end
end

if ARGV[9] == '1' then
  redis.call('DEL', KEYS[2])
end
local set_end = HEAD + ARGV[12]
local drop_end = set_end + ARGV[13]
redis.call('HSET', KEYS[2], '@', ARGV[8])
each('HSET', KEYS[2], HEAD + 1, set_end)
each('HDEL', KEYS[2], set_end + 1, drop_end)
redis.call('PEXPIRE', KEYS[2], ARGV[4])
if #ARGV > drop_end then
  local time = redis.call('TIME')
  local now = string.format('%d:', time[1] * 1000 + math.floor(time[2] / 1000))
  for i = drop_end + 1, #ARGV, 2 do
    redis.call('HSET', KEYS[4], ARGV[i], now .. ARGV[i + 1])
  end
  redis.call('PEXPIRE', KEYS[4], ARGV[7])
end
local id = ''
if ARGV[11] ~= '' then
  id = redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[5], '*', 'b', ARGV[11])
  redis.call('PEXPIRE', KEYS[3], ARGV[6])
end
-- msgpack: an array of a string and the message, and of the log entry where there is one.
local head = #id < 32 and string.char(0xa0 + #id) or string.char(0xd9, #id)
redis.call('PUBLISH', ARGV[3], string.char(id == '' and 0x92 or 0x93) .. head .. id .. ARGV[10] .. ARGV[11])
return 1
