#!/usr/bin/env bash
# An owner signs in, claims a device by name, and gives it back. The device's name needs no escapes here.
set -euo pipefail
sign_in=$(printf '{"username":"%s","password":"%s"}' "$OWNER_EMAIL" "$OWNER_PASSWORD")
bearer=$(curl -sS --fail-with-body -H 'Content-Type: application/json' -d "$sign_in" "http://$CLAIMD_HTTP/api/auth/login" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')

url="http://$CLAIMD_HTTP/api/customer/device/$DEVICE_NAME/claim"
curl -sS --fail-with-body -o /dev/null -H "X-Authorization: Bearer $bearer" -H 'Content-Type: application/json' \
  -d "$(printf '{"secretKey":"%s"}' "$CLAIM_SECRET")" "$url"
echo "$DEVICE_NAME is mine"

curl -sS --fail-with-body -X DELETE -H "X-Authorization: Bearer $bearer" "$url"
echo "$DEVICE_NAME is nobody's"
