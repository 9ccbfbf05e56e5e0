-- Sees to it that so many tries of an instant are counted; those that are there are not counted again.
-- KEYS: the pair, the account, the device
-- ARGV: the instant, the account, the device's name, how many, until when it counts
for n = redis.call('ZCOUNT', KEYS[1], ARGV[1], ARGV[1]) + 1, tonumber(ARGV[4]) do
  local try = ARGV[1] .. '.' .. n .. ARGV[3]
  redis.call('ZADD', KEYS[1], ARGV[1], try)
  redis.call('ZADD', KEYS[2], ARGV[1], try)
  redis.call('ZADD', KEYS[3], ARGV[1], ARGV[2] .. try)
  for scope = 1, 3 do
    if redis.call('PEXPIRETIME', KEYS[scope]) < tonumber(ARGV[5]) then
      redis.call('PEXPIREAT', KEYS[scope], ARGV[5])
    end
  end
end
return 0
