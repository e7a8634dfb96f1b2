-- Give the lease back and take the share away.
-- KEYS leases, tokens, own inflight, own pods   ARGV replica, token, channel, gone message
-- Returns 1, or 0 if the lease was gone already.
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3], KEYS[4])
redis.call('PUBLISH', ARGV[3], string.char(0x92, 0xa0) .. ARGV[4])
return 1
