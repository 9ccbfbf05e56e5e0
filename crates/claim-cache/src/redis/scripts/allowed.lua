-- Names the first of the commands that are needed which the user may not give on the keys of this install; else nothing.
-- KEYS: none: nothing is touched
-- ARGV: a claim's key, a key of the hash tag
local claim, other = ARGV[1], ARGV[2]
local needed = {
  {'GET', claim}, {'MGET', claim}, {'SET', claim, '', 'PXAT', '1', 'GET'}, {'DEL', claim},
  {'GET', other}, {'SET', other, ''}, {'EXISTS', other}, {'DEL', other}, {'UNLINK', other}, {'PEXPIREAT', other, '1'},
  {'PEXPIRETIME', other}, {'HGET', other, ''}, {'HMGET', other, ''}, {'HGETALL', other},
  {'HEXISTS', other, ''}, {'HINCRBY', other, '', '1'}, {'HDEL', other, ''}, {'RPUSH', other, ''}, {'LRANGE', other, '0', '0'},
  {'LINDEX', other, '0'}, {'LPOP', other}, {'ZADD', other, '0', ''}, {'ZREM', other, ''}, {'ZCOUNT', other, '0', '0'},
  {'ZRANGE', other, '0', '0'}, {'ZRANGEBYSCORE', other, '0', '0'}, {'ZREMRANGEBYSCORE', other, '0', '0'},
  {'PING'}, {'WAIT', '0', '1'}, {'CLUSTER', 'SLOTS'}, {'ASKING'},
}
for _, command in ipairs(needed) do
  if not redis.acl_check_cmd(unpack(command)) then
    return command[1]
  end
end
return false
