-- Counts a try in all three counters, or in none.
-- KEYS: the pair, the account, the device, the mark of counters that are whole
-- ARGV: now, the try's name, the account, then for each counter its tries and its window in milliseconds
if redis.call('EXISTS', KEYS[4]) == 0 then
  return {'lost', 0}
end
local now = tonumber(ARGV[1])
local function text(number) return string.format('%.0f', number) end
local left, spent, wait, longest = nil, nil, nil, 0
for scope = 1, 3 do
  local tries, window = tonumber(ARGV[2 + 2 * scope]), tonumber(ARGV[3 + 2 * scope])
  longest = math.max(longest, window)
  local within = '(' .. text(now - window)
  local used = redis.call('ZCOUNT', KEYS[scope], within, '+inf')
  local more = tries - used - 1
  if more >= 0 then
    left = math.min(left or more, more)
  else
    -- Free when all but `tries - 1` have left the window.
    local place = used - math.max(1, math.min(tries, used))
    local leaves = redis.call('ZRANGEBYSCORE', KEYS[scope], within, '+inf', 'WITHSCORES', 'LIMIT', place, 1)
    local free = leaves[2] and tonumber(leaves[2]) + window - now or window
    -- All three must be free: the one that takes longest is what to wait for.
    if not wait or free > wait then
      spent, wait = scope, free
    end
  end
end
if spent then
  return {'spent', spent, wait}
end
local members = {ARGV[2], ARGV[2], ARGV[3] .. ARGV[2]}
for scope = 1, 3 do
  redis.call('ZADD', KEYS[scope], ARGV[1], members[scope])
  redis.call('ZREMRANGEBYSCORE', KEYS[scope], '-inf', text(now - longest))
  -- A minute more than it counts: the clocks of nodes and store differ.
  redis.call('PEXPIREAT', KEYS[scope], text(now + longest + 60000))
end
return {'left', left}
