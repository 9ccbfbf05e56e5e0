"""A gateway says over MQTT that a device behind it may be claimed. Needs paho-mqtt 2.

Set CLAIMD_TOKEN to the gateway's access token and CLAIMD_SECRET to what the device's owner will show.
"""

# The device is "{{device}}". Afterwards, as its owner, with the secret in code.txt:
#
#   {{confirm}}
#
import json
import os
import queue
import sys

import paho.mqtt.client as mqtt

DEVICE = {{literal}}
results = queue.Queue()

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.username_pw_set(os.environ["CLAIMD_TOKEN"])
# A refused sign-in, or a message that was refused as a whole, has no result for each child.
refused = lambda reason: reason.is_failure and results.put({"accepted": 0, "refused": str(reason)})
client.on_connect = lambda _client, _data, _flags, reason, _properties: refused(reason)
client.on_publish = lambda _client, _data, _mid, reason, _properties: refused(reason)
client.on_message = lambda _client, _data, message: results.put(json.loads(message.payload))
# One member a child; up to 2,000 in a message.
batch = {DEVICE: {"secretKey": os.environ["CLAIMD_SECRET"], "durationMs": 600_000}}
client.on_subscribe = lambda *_: client.publish("v1/gateway/claim", json.dumps(batch), qos=1)
client.connect({{host_literal}}, {{port}})
client.loop_start()
# The result of each child that was refused comes here.
client.subscribe("v1/gateway/claim/response", qos=1)
result = results.get(timeout=60)
client.disconnect()
client.loop_stop()
print(f"{DEVICE}: registered" if result["accepted"] == 1 else f"{DEVICE}: refused: {result['refused']}")
sys.exit(result["accepted"] != 1)
