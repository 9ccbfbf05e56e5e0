#!/usr/bin/env bash
# Says over MQTT that the device "{{device}}" may be claimed. Needs mosquitto-clients.
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
# At QoS 1 the ack means registered and visible to owners. Version 5, because there a refusal has a reason.
if ! answer=$(printf %s "$body" | mosquitto_pub -h {{host}} -p {{port}} -V mqttv5 -q 1 -u "$CLAIMD_TOKEN" \
  -t v1/devices/me/claim -s 2>&1) || [ -n "$answer" ]; then
  printf '%s: refused: %s\n' "$device" "$answer"
  exit 1
fi
printf '%s: registered\n' "$device"
