-- Take the lock for writing a checkpoint, unless a recent one stands. A lock without an end is none of a replica's.
-- KEYS checkpoint, lock   ARGV token, lock ttl ms, a recent one's age in ms
-- Returns 1 or 0.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = tonumber(redis.call('HGET', KEYS[1], 'at_ms') or '')
if at and at <= now and now - at < tonumber(ARGV[3]) then
  return 0
end
local left = redis.call('PTTL', KEYS[2])
if left == -1 or left > tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[2])
end
return redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
