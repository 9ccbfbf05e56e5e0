"""A device that speaks CoAP."""

import asyncio
import json
import os

import aiocoap


async def main():
    claim = json.dumps({"secretKey": os.environ["CLAIM_SECRET"], "durationMs": 600_000}).encode()
    uri = f"coap://{os.environ['CLAIMD_COAP']}/api/v1/{os.environ['DEVICE_TOKEN']}/claim"
    context = await aiocoap.Context.create_client_context()
    answer = await context.request(aiocoap.Message(code=aiocoap.POST, uri=uri, payload=claim)).response
    # 2.01 means registered; a refusal has a text.
    print("registered" if answer.code == aiocoap.CREATED else f"{answer.code}: {answer.payload.decode()}")
    await context.shutdown()


asyncio.run(main())
