-- Renew the lease, remove those that ended and those that end in more than a day, and publish both.
-- KEYS leases, tokens, own inflight, own pods
-- ARGV replica, token, channel, lease ms, share ttl ms, prefix of inflight keys, schema, beat, prefix of pods keys
-- Returns 1, or 0 if the lease is gone: then nothing was done.
keep_type(KEYS[1], 'zset')
keep_type(KEYS[2], 'hash')
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[4], ARGV[1])
for i = 1, 4 do
  redis.call('PEXPIRE', KEYS[i], ARGV[5])
end
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now))
for _, wrong in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%d', now + 86400000), '+inf')) do
  over[#over + 1] = wrong
end
for _, lapsed in ipairs(over) do
  local gone = {t = 'gone', v = tonumber(ARGV[7]), replica = lapsed, token = redis.call('HGET', KEYS[2], lapsed) or ''}
  redis.call('ZREM', KEYS[1], lapsed)
  redis.call('HDEL', KEYS[2], lapsed)
  redis.call('DEL', ARGV[6] .. lapsed, ARGV[9] .. lapsed)
  redis.call('PUBLISH', ARGV[3], cmsgpack.pack({'', gone}))
end
redis.call('PUBLISH', ARGV[3], string.char(0x92, 0xa0) .. ARGV[8])
return 1
