-- Put a pool's records back where the server lost them, and only there.
-- KEYS policy, pools   ARGV pool, generation of the newest, channel, replica, token, schema; records, newest first ...
-- Returns 1, or 0 if what is stored is as new.
local generation = newest_generation(KEYS[1], 0)
if generation >= tonumber(ARGV[2]) then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('RPUSH', KEYS[1], unpack(ARGV, 7))
keep_type(KEYS[2], 'set')
redis.call('SADD', KEYS[2], ARGV[1])
local update = {t = 'policy', v = tonumber(ARGV[6]), replica = ARGV[4], token = ARGV[5], pool = ARGV[1], record = ARGV[7]}
redis.call('PUBLISH', ARGV[3], cmsgpack.pack({'', update}))
return 1
