-- Make the pages just written the checkpoint; what it replaces is not needed any more.
-- KEYS checkpoint, lock, log, new pages   ARGV token, name, log id, prefix of pages, ttl ms
-- Returns 1, or 0 if the lock was lost: then the pages are gone.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  redis.call('UNLINK', KEYS[4])
  return 0
end
local time = redis.call('TIME')
local old = redis.call('HGET', KEYS[1], 'name')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], 'name', ARGV[2], 'log_id', ARGV[3], 'at_ms', now)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[4], ARGV[5])
if old then
  redis.call('UNLINK', ARGV[4] .. old)
end
redis.call('XTRIM', KEYS[3], 'MINID', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
