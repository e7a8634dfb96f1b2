-- For other scripts, in front of them: delete a key of another type than it should have. Returns whether it was.

local function keep_type(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    redis.call('DEL', key)
    return true
  end
  return false
end

