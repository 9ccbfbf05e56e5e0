-- Takes one try of an instant back from all three counters.
-- KEYS: the pair, the account, the device
-- ARGV: the instant, the account
local try = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[1], 'LIMIT', 0, 1)[1]
if try then
  redis.call('ZREM', KEYS[1], try)
  redis.call('ZREM', KEYS[2], try)
  redis.call('ZREM', KEYS[3], ARGV[2] .. try)
end
return 0
