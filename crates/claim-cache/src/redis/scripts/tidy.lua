-- Counts out claims that ended at or before an instant; returns how many.
-- KEYS: all ends, the tenants' counts
-- ARGV: the instant, how many at most
local ended = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, member in ipairs(ended) do
  redis.call('ZREM', KEYS[1], member)
  local tenant = member:sub(1, 16)
  if redis.call('HINCRBY', KEYS[2], tenant, -1) <= 0 then
    redis.call('HDEL', KEYS[2], tenant)
  end
end
return #ended
