-- A replica's figures of a trial, for those of all.
-- KEYS figures of the trial
-- ARGV reporter, its figures, TTL in ms
-- Returns each reporter and its figures in turn.
keep_type(KEYS[1], 'hash')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return redis.call('HGETALL', KEYS[1])
