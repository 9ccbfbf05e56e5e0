-- Removes the claim that bears the stamp; returns what was there.
-- KEYS: the claim
-- ARGV: the stamp
local old = redis.call('GET', KEYS[1])
if not old or old:sub(67, 74) ~= ARGV[1] then
  return false
end
redis.call('DEL', KEYS[1])
return old
