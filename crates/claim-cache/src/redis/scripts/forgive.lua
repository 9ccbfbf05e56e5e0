-- Takes every try at a device back, of all accounts and from all three counters.
-- KEYS: the device
-- ARGV: what the keys of accounts begin with, what those of pairs begin with, the device's name
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local account = member:sub(1, 16)
  -- In the slot of KEYS[1], since all keys share one hash tag.
  redis.call('ZREM', ARGV[1] .. account, member:sub(17))
  redis.call('DEL', ARGV[2] .. account .. ARGV[3])
end
redis.call('DEL', KEYS[1])
return 0
