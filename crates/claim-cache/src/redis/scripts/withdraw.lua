-- Removes the claim if it was received at or before an instant; returns what was there.
-- KEYS: the claim
-- ARGV: the instant
local old = redis.call('GET', KEYS[1])
if not old or struct.unpack('>i8', old, 51) > tonumber(ARGV[1]) then
  return false
end
redis.call('DEL', KEYS[1])
return old
