#!/bin/sh
# Makes what docker-compose.yml takes for secrets: random, in files of ./secrets, once. Keep a copy of master.key apart from
# backups: without it every stored digest is useless.
#
#   ./make-secrets.sh [FOLDER]
set -eu
umask 077
folder=${1:-$(dirname "$0")/secrets}
if [ -e "$folder/master.key" ]; then
    echo "there are secrets in $folder already" >&2
    exit 1
fi
random() { head -c 24 /dev/urandom | base64 | tr -d '/+=\n'; }

mkdir -p "$folder"
database=$(random) claims=$(random)
head -c 32 /dev/urandom > "$folder/master.key"
printf '%s\n' "$(random)" > "$folder/admin.password"
printf '%s\n' "$database" > "$folder/postgres.password"
printf 'postgresql://claimd:%s@postgres:5432/claimd\n' "$database" > "$folder/registry.url"
printf 'redis://claimd:%s@valkey:6379/0\n' "$claims" > "$folder/redis.url"
printf 'user default off\nuser claimd on >%s ~* &* +@all -@admin +info +config|get\n' "$claims" > "$folder/valkey.acl"

# A secret's file shows in the container with the owner and mode that it has here. claimd's are for its user alone; Valkey's
# own user is another one, so that file is open, in a folder that is not.
chmod 0444 "$folder/valkey.acl"
owner=$(id -u):$(id -g)
if [ "$(id -u)" = 0 ]; then
    owner=65532:65532
    chown "$owner" "$folder/master.key" "$folder/admin.password" "$folder/registry.url" "$folder/redis.url"
fi
printf 'CLAIMD_USER=%s\n' "$owner" > "$folder/.env"
echo "made in $folder; the first sign-in is \`admin\` with the password in admin.password"
echo "next: docker compose --env-file $folder/.env up --build"
