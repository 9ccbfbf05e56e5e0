"""Says over CoAP that a device may be claimed. Needs aiocoap.

Set CLAIMD_TOKEN to the device's access token and CLAIMD_SECRET to what its owner will show.
"""

# The device is "{{device}}". Afterwards, as its owner, with the secret in code.txt:
#
#   {{confirm}}
#
import asyncio
import json
import os
import sys
import urllib.parse

import aiocoap

DEVICE = {{literal}}


async def main():
    token = urllib.parse.quote(os.environ["CLAIMD_TOKEN"], safe="")
    claim = json.dumps({"secretKey": os.environ["CLAIMD_SECRET"], "durationMs": 600_000}).encode()
    message = aiocoap.Message(code=aiocoap.POST, uri=f"{{base}}/api/v1/{token}/claim", payload=claim)
    context = await aiocoap.Context.create_client_context()
    answer = await context.request(message).response
    await context.shutdown()
    # 2.01 means registered and visible to owners; a refusal has a text.
    registered = answer.code == aiocoap.CREATED
    print(f"{DEVICE}: registered" if registered else f"{DEVICE}: refused: {answer.code} {answer.payload.decode()}")
    return not registered


sys.exit(asyncio.run(main()))
