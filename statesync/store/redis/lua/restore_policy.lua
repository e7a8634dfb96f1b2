-- Put a pool's records back where the server lost them, if its newest record is still the one that the replica read.
-- KEYS policy, pools
-- ARGV pool, newest record as it was read or '' for none, channel, replica, token, schema; records, newest first ...
-- Returns 1, or 0 if another record is the newest by now.
newest_generation(KEYS[1], 0)
if (redis.call('LINDEX', KEYS[1], 0) or '') ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('RPUSH', KEYS[1], unpack(ARGV, 7))
keep_type(KEYS[2], 'set')
redis.call('SADD', KEYS[2], ARGV[1])
local update = {t = 'policy', v = tonumber(ARGV[6]), replica = ARGV[4], token = ARGV[5], pool = ARGV[1], record = ARGV[7]}
redis.call('PUBLISH', ARGV[3], cmsgpack.pack({'', update}))
return 1
