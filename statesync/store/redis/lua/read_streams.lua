-- Read on in the logs of streams, and note it for the processes that own them.
-- KEYS the logs
-- ARGV length of an owner, prefix of keepers' keys, prefix of the sets of followed logs, ms of such a set, most bytes of
--   a log, then the offset in each log
-- Returns for each log: its owner or '', 1 if that process lives, what the log has from the offset on.
local result = {}
for i, key in ipairs(KEYS) do
  local owner, alive, lines = '', 0, ''
  if redis.call('TYPE', key).ok == 'string' then
    local at = tonumber(ARGV[5 + i])
    owner = redis.call('GETRANGE', key, 0, ARGV[1] - 1)
    lines = redis.call('GETRANGE', key, at, at + ARGV[5] - 1)
    alive = redis.call('EXISTS', ARGV[2] .. owner)
    if alive == 1 then
      redis.call('SADD', ARGV[3] .. owner, key)
      redis.call('PEXPIRE', ARGV[3] .. owner, ARGV[4])
    end
  end
  result[3 * i - 2] = owner
  result[3 * i - 1] = alive
  result[3 * i] = lines
end
return result
