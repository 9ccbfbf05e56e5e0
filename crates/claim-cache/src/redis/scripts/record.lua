-- Records a claim, unless it stands behind the device's own or needs a place and has none; returns what was there.
-- KEYS: the claim
-- ARGV: the claim's value, now, when the key is forgotten, whether there is a place for it (1 or 0)
local value, now = ARGV[1], tonumber(ARGV[2])
local old = redis.call('GET', KEYS[1])
local live = old and now < struct.unpack('>i8', old, 59)
if live and old:byte(2) == 0 and value:byte(2) == 1 then
  return 2
end
-- What is live has its place already, if its tenant is the same.
if ARGV[4] == '0' and not (live and old:sub(3, 18) == value:sub(3, 18)) then
  return 3
end
redis.call('SET', KEYS[1], value, 'PXAT', ARGV[3])
return old
