#!/usr/bin/env bash
# Says over CoAP that the device "{{device}}" may be claimed. Needs libcoap3-bin.
# Set CLAIMD_TOKEN to the device's access token and CLAIMD_SECRET to what its owner will show. Then, as the owner, with
# the secret in code.txt:
#
#   {{confirm}}
#
set -euo pipefail
: "${CLAIMD_TOKEN:?is not set: the access token of the device}"
: "${CLAIMD_SECRET:?is not set: the secret that the owner will show}"
device={{literal}}

# A secret as JSON text. It goes through standard input, so that no list of processes shows it.
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
coap=$(command -v coap-client || command -v coap-client-notls || command -v coap-client-openssl)
# At this level it shows what it hears: 2.01 means registered and visible to owners. The last answer counts, as a first one may
# only ask to be sent back.
heard=$(printf %s "$body" | "$coap" -v 6 -B 30 -m post -f - "{{base}}/api/v1/$token/claim" 2>&1 || true)
answer=$(grep -o 'c:[245]\.[0-9][0-9].*' <<<"$heard" | tail -n 1 || true)
case $answer in
  c:2.01*) printf '%s: registered\n' "$device" ;;
  *)
    printf '%s: refused: %s\n' "$device" "${answer:-no answer}"
    exit 1
    ;;
esac
