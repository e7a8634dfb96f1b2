-- Take the lock for writing a checkpoint, unless a recent one stands.
-- KEYS checkpoint, lock   ARGV token, lock ttl ms, a recent one's age in ms
-- Returns 1 or 0.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = redis.call('HGET', KEYS[1], 'at_ms')
if at and now - at < tonumber(ARGV[3]) then
  return 0
end
return redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
