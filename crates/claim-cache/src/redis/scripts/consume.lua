-- Removes the claim that bears the stamp.
-- KEYS: the claim, all ends, the tenants' counts
-- ARGV: the stamp, the device
local old = redis.call('GET', KEYS[1])
if not old or old:sub(67, 74) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
if redis.call('ZREM', KEYS[2], old:sub(3, 18) .. ARGV[2]) == 1 then
  redis.call('HINCRBY', KEYS[3], old:sub(3, 18), -1)
end
return 1
