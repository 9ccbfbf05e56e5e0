"""aiocoap submits a claim, then observes the device's claim state until it is claimed."""

import asyncio
import json
import os

import aiocoap


async def main():
    uri = f"coap://{os.environ['COAP']}/api/v1/{os.environ['TOKEN']}/claim"
    context = await aiocoap.Context.create_client_context()
    body = json.dumps({"secretKey": "s3cret", "durationMs": 60000}).encode()

    watch = context.request(aiocoap.Message(code=aiocoap.GET, uri=uri, observe=0))
    first = await watch.response
    print(json.loads(first.payload)["claimState"], flush=True)

    submitted = await context.request(aiocoap.Message(code=aiocoap.POST, uri=uri, payload=body)).response
    assert submitted.code == aiocoap.CREATED, submitted.code
    assert submitted.payload == b"", submitted.payload
    async for message in watch.observation:
        state = json.loads(message.payload)["claimState"]
        print(state, flush=True)
        if state == "CLAIMED":
            break
    await context.shutdown()


asyncio.run(main())
