-- The owner of an id. A key of another type, which no replica wrote, is replaced.
-- KEYS young and old generation of owners
-- ARGV key, pod, entries of a generation, TTL in ms
-- Returns nothing.
keep_type(KEYS[1], 'hash')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then
  redis.call('UNLINK', KEYS[2])
  redis.call('RENAME', KEYS[1], KEYS[2])
end
