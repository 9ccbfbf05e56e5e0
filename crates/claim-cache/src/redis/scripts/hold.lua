-- Keeps places for claims to come: as many as are needed while there are any, and some ahead while there are many.
-- KEYS: places in use, the periods, the counts of the period until which they are kept
-- ARGV: the tenant, needed, wished ahead, most in all, most of the tenant, the period's second, its member
local function used(field) return tonumber(redis.call('HGET', KEYS[1], field) or 0) end
local room = math.min(tonumber(ARGV[4]) - used('all'), tonumber(ARGV[5]) - used(ARGV[1]))
local needed = math.max(0, math.min(tonumber(ARGV[2]), room))
-- A sixteenth of what is left: the last places are given one by one, so that none is kept from others.
local ahead = math.max(0, math.min(tonumber(ARGV[3]), math.floor((room - needed) / 16)))
local held = needed + ahead
if held > 0 then
  redis.call('HINCRBY', KEYS[1], 'all', held)
  redis.call('HINCRBY', KEYS[1], 'held', held)
  redis.call('HINCRBY', KEYS[1], ARGV[1], held)
  redis.call('HINCRBY', KEYS[3], ARGV[1], held)
  redis.call('ZADD', KEYS[2], ARGV[6], ARGV[7])
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {needed, ahead, math.max(0, room - held), tonumber(first[2] or 0)}
