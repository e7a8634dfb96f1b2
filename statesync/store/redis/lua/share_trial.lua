-- A replica's figures of a trial, for those of all.
-- KEYS figures of the trial
-- ARGV who, their figures, TTL in ms
-- Returns who and figures in turn, of all that ever told.
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return redis.call('HGETALL', KEYS[1])
