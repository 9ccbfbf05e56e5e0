-- Puts those entries that still count behind the others and drops what was read, unless another was faster.
-- KEYS: a period's list, its counts
-- ARGV: the first of the list as it was read, the entries of it that still count, in one
if redis.call('LINDEX', KEYS[1], 0) ~= ARGV[1] then
  return 0
end
redis.call('LPOP', KEYS[1])
if #ARGV[2] > 0 then
  redis.call('RPUSH', KEYS[1], ARGV[2])
end
redis.call('HINCRBY', KEYS[2], 'listed', (#ARGV[2] - #ARGV[1]) / 32)
return 1
