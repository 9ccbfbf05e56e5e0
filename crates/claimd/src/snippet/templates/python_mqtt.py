"""Says over MQTT that a device may be claimed. Needs paho-mqtt 2.

Set CLAIMD_TOKEN to the device's access token and CLAIMD_SECRET to what its owner will show.
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
answers = queue.Queue()

# Version 5, because there a refusal has a reason.
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.username_pw_set(os.environ["CLAIMD_TOKEN"])
client.on_connect = lambda _client, _data, _flags, reason, _properties: reason.is_failure and answers.put(reason)
client.on_publish = lambda _client, _data, _mid, reason, _properties: answers.put(reason)
client.connect({{host_literal}}, {{port}})
client.loop_start()
claim = {"secretKey": os.environ["CLAIMD_SECRET"], "durationMs": 600_000}
client.publish("v1/devices/me/claim", json.dumps(claim), qos=1)
# At QoS 1 the ack means registered and visible to owners.
answer = answers.get(timeout=60)
client.disconnect()
client.loop_stop()
print(f"{DEVICE}: refused: {answer}" if answer.is_failure else f"{DEVICE}: registered")
sys.exit(answer.is_failure)
