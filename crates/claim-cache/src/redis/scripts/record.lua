-- Records a claim, unless it stands behind the device's own or there is no room.
-- KEYS: the claim, all ends, the tenants' counts
-- ARGV: the claim's value, now, when the key is forgotten, the device, most claims, most of a tenant
local value, now = ARGV[1], tonumber(ARGV[2])
local old = redis.call('GET', KEYS[1])
local live = old and now < struct.unpack('>i8', old, 59)
if live and old:byte(2) == 0 and value:byte(2) == 1 then
  return 2
end
local tenant = value:sub(3, 18)
local member = tenant .. ARGV[4]
-- What is live has its place already, if its tenant is the same.
if not live or old:sub(3, 18) ~= tenant then
  local full = redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5])
  if full or tonumber(redis.call('HGET', KEYS[3], tenant) or 0) >= tonumber(ARGV[6]) then
    local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
    return {3, tonumber(first[2] or 0)}
  end
end
-- The first write: where memory is short it fails, and nothing has changed.
redis.call('SET', KEYS[1], value, 'PXAT', ARGV[3])
if redis.call('ZADD', KEYS[2], string.format('%.0f', struct.unpack('>i8', value, 59)), member) == 1 then
  redis.call('HINCRBY', KEYS[3], tenant, 1)
end
if old and old:sub(3, 18) ~= tenant and redis.call('ZREM', KEYS[2], old:sub(3, 18) .. ARGV[4]) == 1 then
  redis.call('HINCRBY', KEYS[3], old:sub(3, 18), -1)
end
return live and 1 or 0
