-- Make another process the owner of a stream's log, if it is still that of the one that is thought to own it.
-- KEYS the log
-- ARGV owner, next owner of the same length, ms that the log is kept from now on, offset
-- Returns the log from the offset on, or nothing if its owner is another one.
if redis.call('TYPE', KEYS[1]).ok ~= 'string' or redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then
  return false
end
redis.call('SETRANGE', KEYS[1], 0, ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return redis.call('GETRANGE', KEYS[1], ARGV[4], -1)
