-- For the scripts of policy records, in front of them. A record that cannot be read is none.

-- The generation of the newest record that can be read; those before it are dropped. `known` is that of the newest one
-- known to the replica: it counts where something was dropped.
local function newest_generation(key, known)
  local damaged = keep_type(key, 'list')
  while true do
    local newest = redis.call('LINDEX', key, 0)
    if not newest then
      return damaged and known or 0
    end
    local readable, record = pcall(cjson.decode, newest)
    local generation = readable and type(record) == 'table' and record.generation
    if type(generation) == 'number' and generation >= 0 and generation < 2 ^ 53 and generation % 1 == 0 then
      return damaged and math.max(known, generation) or generation
    end
    damaged = true
    redis.call('LPOP', key)
  end
end

