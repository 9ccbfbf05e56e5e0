"""A gateway device that speaks for two children in one message, and hears what became of each."""

import json
import os
import queue

import paho.mqtt.client as mqtt

host, port = os.environ["CLAIMD_MQTT"].rsplit(":", 1)
results = queue.Queue()

gateway = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
gateway.username_pw_set(os.environ["DEVICE_TOKEN"])
gateway.on_message = lambda client, data, message: results.put(json.loads(message.payload))
gateway.on_subscribe = lambda *_: gateway.publish("v1/gateway/claim", json.dumps(children), qos=1)
secret = os.environ["CLAIM_SECRET"]
children = {"child-1": {"secretKey": secret, "durationMs": 600_000}, "child-2": {"secretKey": secret}}
gateway.connect(host, int(port))
gateway.loop_start()
gateway.subscribe("v1/gateway/claim/response", qos=1)
result = results.get(timeout=60)
print(f"{result['accepted']} registered, refused: {result['refused']}")
gateway.disconnect()
gateway.loop_stop()
