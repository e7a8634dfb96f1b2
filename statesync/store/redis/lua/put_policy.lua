-- Compare and set a pool's policy by its generation, and by the newest record itself where the replica knows it.
-- KEYS policy, pools
-- ARGV pool, expected generation or '', record as JSON without its generation, history, channel, replica, token, schema,
--      generation of the newest record known to the replica, the expected newest record as it is stored or ''
-- Returns {1, record} or {0, generation}.
local generation = newest_generation(KEYS[1], tonumber(ARGV[9]))
if ARGV[2] ~= '' and tonumber(ARGV[2]) ~= generation then
  return {0, generation}
end
if ARGV[10] ~= '' and redis.call('LINDEX', KEYS[1], 0) ~= ARGV[10] then
  return {0, generation}
end
local record = string.format('{"generation":%d,', generation + 1) .. string.sub(ARGV[3], 2)
redis.call('LPUSH', KEYS[1], record)
redis.call('LTRIM', KEYS[1], 0, ARGV[4] - 1)
keep_type(KEYS[2], 'set')
redis.call('SADD', KEYS[2], ARGV[1])
local update = {t = 'policy', v = tonumber(ARGV[8]), replica = ARGV[6], token = ARGV[7], pool = ARGV[1], record = record}
redis.call('PUBLISH', ARGV[5], cmsgpack.pack({'', update}))
return {1, record}
