#!/usr/bin/env bash
# Says over HTTP that the device "{{device}}" may be claimed. Needs curl.
# Set CLAIMD_TOKEN to the device's access token and CLAIMD_SECRET to what its owner will show. Then, as the owner, with
# the secret in code.txt:
#
#   {{confirm}}
#
set -euo pipefail
: "${CLAIMD_TOKEN:?is not set: the access token of the device}"
: "${CLAIMD_SECRET:?is not set: the secret that the owner will show}"
device={{literal}}

# A secret as JSON text.
secret=$(printf %s "$CLAIMD_SECRET" | sed 's/[\\"]/\\&/g')
body="{\"secretKey\":\"$secret\",\"durationMs\":600000}"
# The token as a segment of the path.
encode() {
  local i c
  for ((i = 0; i < ${#1}; i++)); do
    c=${1:i:1}
    case $c in [A-Za-z0-9._~-]) printf %s "$c" ;; *) printf '%%%02X' "'$c" ;; esac
  done
}
token=$(encode "$CLAIMD_TOKEN")
# 200 means registered and visible to owners. Neither token nor secret is an argument, which others could list.
if ! answer=$(printf %s "$body" | curl -sS --max-time 60 --fail-with-body --data-binary @- \
  -K <(printf 'url = "%s"\n' "{{base}}/api/v1/$token/claim") 2>&1); then
  printf '%s: refused: %s\n' "$device" "$answer"
  exit 1
fi
printf '%s: registered\n' "$device"
