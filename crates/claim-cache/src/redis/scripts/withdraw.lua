-- Removes the claim if it was received at or before an instant.
-- KEYS: the claim, all ends, the tenants' counts
-- ARGV: the instant, the device
local old = redis.call('GET', KEYS[1])
if not old or struct.unpack('>i8', old, 51) > tonumber(ARGV[1]) then
  return 0
end
redis.call('DEL', KEYS[1])
if redis.call('ZREM', KEYS[2], old:sub(3, 18) .. ARGV[2]) == 1 then
  redis.call('HINCRBY', KEYS[3], old:sub(3, 18), -1)
end
return 1
