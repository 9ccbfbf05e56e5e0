-- Makes one change of the counts, once however often it is asked for; returns how many entries each period's list has now.
-- KEYS: places in use, the periods, what the node did last, then for each period its counts and its list
-- ARGV: the change's number, then for each period: its second, its member, how many tenants, each with its difference, and
-- all entries in one
if redis.call('GET', KEYS[3]) == ARGV[1] then
  return {}
end
-- The first write: where memory is short it fails, and nothing has changed.
redis.call('SET', KEYS[3], ARGV[1], 'EX', 86400)
local at, lengths, all, held = 2, {}, 0, 0
for period = 1, (#KEYS - 3) / 2 do
  local counts, list, member = KEYS[2 + 2 * period], KEYS[3 + 2 * period], ARGV[at + 1]
  redis.call('ZADD', KEYS[2], ARGV[at], member)
  for _ = 1, tonumber(ARGV[at + 2]) do
    local tenant, by = ARGV[at + 3], tonumber(ARGV[at + 4])
    redis.call('HINCRBY', counts, tenant, by)
    if redis.call('HINCRBY', KEYS[1], tenant, by) == 0 then
      redis.call('HDEL', KEYS[1], tenant)
    end
    all = all + by
    if member:byte(1) == 114 then
      held = held + by
    end
    at = at + 2
  end
  local entries = ARGV[at + 3]
  lengths[period] = 0
  if #entries > 0 then
    redis.call('RPUSH', list, entries)
    lengths[period] = redis.call('HINCRBY', counts, 'listed', #entries / 32)
  end
  at = at + 4
end
if all ~= 0 then
  redis.call('HINCRBY', KEYS[1], 'all', all)
end
if held ~= 0 then
  redis.call('HINCRBY', KEYS[1], 'held', held)
end
return lengths
