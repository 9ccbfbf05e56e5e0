-- Marks the counters as whole, unless the store was emptied since the audit log was about to be read.
-- KEYS: the mark, this counting's own
if redis.call('DEL', KEYS[2]) == 0 then
  return 0
end
redis.call('SET', KEYS[1], 1)
return 1
