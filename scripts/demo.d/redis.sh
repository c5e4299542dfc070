#!/bin/sh
# Init of the demo's first container: redis, and a client that counts in it and writes down every answer.
redis-server --port 6379 --unixsocket /run/redis.sock --save "" --appendonly no > /data/redis.log 2>&1 &
until redis-cli -s /run/redis.sock ping > /dev/null 2>&1; do sleep 0.05; done
redis-cli -s /run/redis.sock -r -1 -i 0.005 incr counter > /data/client.log &
wait
