"""A device that speaks MQTT 5: it announces itself, then waits until somebody has claimed it."""

import json
import os
import queue

import paho.mqtt.client as mqtt

host, port = os.environ["CLAIMD_MQTT"].rsplit(":", 1)
news = queue.Queue()

device = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
device.username_pw_set(os.environ["DEVICE_TOKEN"])
device.on_message = lambda client, data, message: news.put(json.loads(message.payload))
device.on_publish = lambda client, data, mid, reason, properties: news.put({"ack": reason.value})
device.connect(host, int(port))
device.loop_start()
device.subscribe("v1/devices/me/claim/state", qos=1)

claim = {"secretKey": os.environ["CLAIM_SECRET"], "durationMs": 600_000}
device.publish("v1/devices/me/claim", json.dumps(claim), qos=1)
while True:
    heard = news.get(timeout=60)
    if "ack" in heard:
        # 0 means registered and visible to owners; anything else says why not.
        print("registered" if heard["ack"] == 0 else f"refused: 0x{heard['ack']:02x}", flush=True)
    elif heard["claimState"] == "CLAIMED":
        break
print("claimed")
device.disconnect()
device.loop_stop()
