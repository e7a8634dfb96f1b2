-- Write further lines of the logs of streams that one process keeps. A log begins with the process that owns it.
-- KEYS the logs
-- ARGV owner, its length, then for each log: offset, ms that it is kept from now on, lines
-- Returns for each log: 1, 0 if it is gone or damaged, 2 if another process owns it. Then nothing of it was written.
local result = {}
for i, key in ipairs(KEYS) do
  local at, ms, lines = tonumber(ARGV[3 * i]), ARGV[3 * i + 1], ARGV[3 * i + 2]
  if at == 0 then
    keep_type(key, 'string')
  end
  local there = redis.call('TYPE', key).ok == 'string' and redis.call('STRLEN', key) or 0
  if there < at or (there == 0 and at > 0) then
    result[i] = 0
  elseif there > 0 and redis.call('GETRANGE', key, 0, ARGV[2] - 1) ~= ARGV[1] then
    result[i] = 2
  else
    if lines ~= '' then
      redis.call('SETRANGE', key, at, lines)
    end
    redis.call('PEXPIRE', key, ms)
    result[i] = 1
  end
end
return result
