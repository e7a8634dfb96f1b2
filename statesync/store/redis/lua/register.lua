-- Take the lease, unless another incarnation of this replica holds it. Safe to repeat under the same token.
-- An end more than a day away is no replica's.
-- KEYS leases, tokens, own inflight, epoch   ARGV replica, token, lease ms, share ttl ms, a new epoch
-- Returns {1, epoch} or {0, ms until the other's lease lapses, its token}.
for i, kind in ipairs({'zset', 'hash', 'hash', 'string'}) do
  keep_type(KEYS[i], kind)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local holder = redis.call('HGET', KEYS[2], ARGV[1])
local ends = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0')
if holder and holder ~= ARGV[2] and ends > now and ends - now < 86400000 then
  return {0, ends - now, holder}
end
if holder ~= ARGV[2] then
  redis.call('DEL', KEYS[3])
  redis.call('HSET', KEYS[3], '@', ARGV[2] .. ' 0')
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
for i = 1, 3 do
  redis.call('PEXPIRE', KEYS[i], ARGV[4])
end
redis.call('SET', KEYS[4], ARGV[5], 'NX')
return {1, redis.call('GET', KEYS[4])}
