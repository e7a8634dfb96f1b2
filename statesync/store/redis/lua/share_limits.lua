-- Shares of limits, as `ShareLedger` grants them. The time is this server's.
-- A limit is a hash: token of a live replica -> its share, '@' -> ms at which the level of a rate was zero, or from
-- which on slots that were lost are granted again, '!' -> ms at which a replica that was never answered asked first.
-- KEYS tokens, then the limits
-- ARGV token, TTL in ms, ms in which no lost slots are granted, then of each limit capacity, units a ms, held, want,
-- least, owed, ms since the last answer
-- Returns nothing if the lease is gone, else the live replicas, then of each limit its share, level and free units.
local live, replicas = {}, 0
for _, token in ipairs(redis.call('HVALS', KEYS[1])) do
  live[token] = true
  replicas = replicas + 1
end
if not live[ARGV[1]] then
  return {}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local answer = {tostring(replicas)}
for i = 2, #KEYS do
  local key, at, asked = KEYS[i], 3 + (i - 2) * 7, {}
  keep_type(key, 'hash')
  for j = 1, 7 do
    asked[j] = tonumber(ARGV[at + j])
  end
  local capacity, rate, held, want, least, owed, age = unpack(asked)
  local others, empty_at, began_at = 0, nil, nil
  local fields = redis.call('HGETALL', key)
  for j = 1, #fields, 2 do
    if fields[j] == '@' then
      empty_at = tonumber(fields[j + 1])
    elseif fields[j] == '!' then
      began_at = tonumber(fields[j + 1])
    elseif not live[fields[j]] then
      redis.call('HDEL', key, fields[j])
    elseif fields[j] ~= ARGV[1] then
      others = others + (tonumber(fields[j + 1]) or 0)
    end
  end
  if rate > 0 then  -- units in hand may be taken away, slots in use may not
    held = math.min(held, math.max(0, capacity - others))
  end
  if #fields == 0 and age < 0 then
    redis.call('HSET', key, '!', string.format('%.4f', now))
  end
  local lost = began_at ~= nil and age > now - began_at
  if lost then
    redis.call('HDEL', key, '!')
    if rate > 0 and empty_at then
      empty_at = empty_at + math.max(0, capacity / rate - age + now - began_at)
    end
  end
  if rate == 0 and (lost or (#fields == 0 and age >= 0)) then
    empty_at = now + tonumber(ARGV[3])
    redis.call('HSET', key, '@', string.format('%.4f', empty_at))
  end
  local level = capacity - others - held
  if rate > 0 then
    empty_at = empty_at or now - (age < 0 and capacity / rate or age)
    level = math.max(math.min(level, (now - empty_at) * rate) - owed, -capacity)
  end
  local more = want - held
  if more > 0 then
    more = math.min(more, level)
    if more < least or more < 0 or (rate == 0 and empty_at and now < empty_at) then
      more = 0
    end
  end
  local share = held + more
  level = level - more
  if rate > 0 then
    redis.call('HSET', key, '@', string.format('%.4f', now - level / rate))
  end
  redis.call('HSET', key, ARGV[1], string.format('%.6f', share))
  redis.call('PEXPIRE', key, ARGV[2])
  local free = rate > 0 and level + others + share or level
  for _, number in ipairs({share, level, free}) do
    answer[#answer + 1] = string.format('%.6f', number)
  end
end
return answer
