-- Counts out a period that is over, and forgets it. What came of it too late, or was lost on the way, ends with it.
-- KEYS: places in use, the periods, the period's counts, its list
-- ARGV: its member
local counts = redis.call('HGETALL', KEYS[3])
-- First what may be done though memory is short; what follows is then let through.
redis.call('DEL', KEYS[3])
redis.call('UNLINK', KEYS[4])
redis.call('ZREM', KEYS[2], ARGV[1])
local all = 0
for place = 1, #counts, 2 do
  local tenant, count = counts[place], tonumber(counts[place + 1])
  -- Beside the tenants there is how long the list was.
  if #tenant == 16 then
    if count ~= 0 and redis.call('HINCRBY', KEYS[1], tenant, -count) == 0 then
      redis.call('HDEL', KEYS[1], tenant)
    end
    all = all + count
  end
end
if all ~= 0 then
  redis.call('HINCRBY', KEYS[1], 'all', -all)
  if ARGV[1]:byte(1) == 114 then
    redis.call('HINCRBY', KEYS[1], 'held', -all)
  end
end
return all
