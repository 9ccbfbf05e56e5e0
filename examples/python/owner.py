"""An owner, with nothing but Python's own library: signs in and claims a device by name."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request

BASE = f"http://{os.environ['CLAIMD_HTTP']}"


def post(path, body, bearer=None):
    request = urllib.request.Request(BASE + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    if bearer:
        request.add_header("X-Authorization", f"Bearer {bearer}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


account = {"username": os.environ["OWNER_EMAIL"], "password": os.environ["OWNER_PASSWORD"]}
bearer = post("/api/auth/login", account)["token"]
name = os.environ["DEVICE_NAME"]
try:
    path = f"/api/customer/device/{urllib.parse.quote(name, safe='')}/claim"
    print(post(path, {"secretKey": os.environ["CLAIM_SECRET"]}, bearer)["response"])
except urllib.error.HTTPError as refusal:
    # FAILURE: the name or the code does not match, or the device is not open. A reason only after the right code.
    print(refusal.code, refusal.read().decode(), refusal.headers.get("Claim-Reason", ""))
