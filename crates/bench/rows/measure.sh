#!/bin/sh
# Bytes that a device takes in a registry, indexes included. docs/sizing.md has the figures.
#
#   measure.sh sqlite FILE COUNT        a registry.db whose server is stopped
#   measure.sh postgres ADDRESS COUNT   a database that psql takes for one, nobody else in it
#
# The registry is one that claimd has made, with its first account and one customer, and is of no use afterwards.
set -eu
engine=$1 place=$2 count=$3
here=$(dirname "$0")
case $engine in
sqlite)
    run() { sqlite3 -bail "$place"; }
    size() { stat -c %s "$place"; }
    ;;
postgres)
    run() { psql -q -v ON_ERROR_STOP=1 "$place"; }
    size() { psql -q -At -c 'SELECT pg_database_size(current_database())' "$place"; }
    ;;
esac
before=$(size)
for state in made coded claimed; do
    sed "s/{N}/$count/g" "$here/$state.$engine.sql" | run
    echo "$engine, $state: $((($(size) - before) / count)) bytes a device"
done
