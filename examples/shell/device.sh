#!/usr/bin/env bash
# A device says three times that it may be claimed: over MQTT, CoAP and HTTP. Each success means that it is registered.
set -euo pipefail
body=$(printf '{"secretKey":"%s","durationMs":600000}' "$CLAIM_SECRET")

mosquitto_pub -h "${CLAIMD_MQTT%:*}" -p "${CLAIMD_MQTT##*:}" -V 5 -u "$DEVICE_TOKEN" -q 1 \
  -t v1/devices/me/claim -m "$body"
echo "mqtt: registered"

coap=$(command -v coap-client || command -v coap-client-notls)
# By itself coap-client is as silent on 2.01 as when nobody answers; at this level it shows what it hears.
heard=$("$coap" -v 6 -m post -e "$body" "coap://$CLAIMD_COAP/api/v1/$DEVICE_TOKEN/claim" 2>&1)
answer=$(grep -o 'c:[245]\.[0-9][0-9].*' <<<"$heard" | tail -n 1 || true)
[[ $answer == c:2.01* ]] || { echo "coap: ${answer:-no answer}"; exit 1; }
echo "coap: registered"

curl -sS --fail-with-body -d "$body" "http://$CLAIMD_HTTP/api/v1/$DEVICE_TOKEN/claim"
echo "http: registered"
