#!/usr/bin/env bash
# A gateway says over MQTT that the device "{{device}}" may be claimed. Needs mosquitto-clients.
# Set CLAIMD_TOKEN to the gateway's access token and CLAIMD_SECRET to what the device's owner will show. Then, as the
# owner, with the secret in code.txt:
#
#   {{confirm}}
#
set -euo pipefail
: "${CLAIMD_TOKEN:?is not set: the access token of the gateway}"
: "${CLAIMD_SECRET:?is not set: the secret that the owner will show}"
device={{literal}}

json() { printf %s "$1" | sed 's/[\\"]/\\&/g'; }
# One member a child; up to 2,000 in a message. It goes through standard input, so that no list of processes shows it.
body="{\"$(json "$device")\":{\"secretKey\":\"$(json "$CLAIMD_SECRET")\",\"durationMs\":600000}}"
# At QoS 1 the ack means that every child is registered; a refusal has the reason of the worst one.
if ! answer=$(printf %s "$body" | mosquitto_pub -h {{host}} -p {{port}} -V mqttv5 -q 1 -u "$CLAIMD_TOKEN" \
  -t v1/gateway/claim -s 2>&1) || [ -n "$answer" ]; then
  printf '%s: refused: %s\n' "$device" "$answer"
  exit 1
fi
printf '%s: registered\n' "$device"
