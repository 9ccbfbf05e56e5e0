"""Says over HTTP that a device may be claimed. Needs nothing but Python.

Set CLAIMD_TOKEN to the device's access token and CLAIMD_SECRET to what its owner will show.
"""

# The device is "{{device}}". Afterwards, as its owner, with the secret in code.txt:
#
#   {{confirm}}
#
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

DEVICE = {{literal}}

token = urllib.parse.quote(os.environ["CLAIMD_TOKEN"], safe="")
claim = json.dumps({"secretKey": os.environ["CLAIMD_SECRET"], "durationMs": 600_000}).encode()
request = urllib.request.Request(f"{{base}}/api/v1/{token}/claim", claim, {"Content-Type": "application/json"})
try:
    # 200 means registered and visible to owners.
    urllib.request.urlopen(request, timeout=60).close()
    print(f"{DEVICE}: registered")
except urllib.error.HTTPError as refusal:
    print(f"{DEVICE}: refused: {refusal.code} {refusal.read().decode()}")
    sys.exit(1)
