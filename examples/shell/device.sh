#!/usr/bin/env bash
# A device says three times that it may be claimed: over MQTT, CoAP and HTTP. Each success means that it is registered.
set -euo pipefail
body=$(printf '{"secretKey":"%s","durationMs":600000}' "$CLAIM_SECRET")

mosquitto_pub -h "${CLAIMD_MQTT%:*}" -p "${CLAIMD_MQTT##*:}" -V 5 -u "$DEVICE_TOKEN" -q 1 \
  -t v1/devices/me/claim -m "$body"
echo "mqtt: registered"

coap=$(command -v coap-client || command -v coap-client-notls)
# coap-client says nothing on 2.01 and the code on anything else.
answer=$("$coap" -m post -e "$body" "coap://$CLAIMD_COAP/api/v1/$DEVICE_TOKEN/claim" 2>&1)
[ -z "$answer" ] || { echo "coap: $answer"; exit 1; }
echo "coap: registered"

curl -sS --fail-with-body -d "$body" "http://$CLAIMD_HTTP/api/v1/$DEVICE_TOKEN/claim"
echo "http: registered"
