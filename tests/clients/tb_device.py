"""ThingsBoard's tb-mqtt-client, unchanged: a device claims, then a gateway claims for two children."""

import os
import time

from tb_device_mqtt import TBDeviceMqttClient
from tb_gateway_mqtt import TBGatewayMqttClient

host, port = os.environ["MQTT_HOST"], int(os.environ["MQTT_PORT"])

device = TBDeviceMqttClient(host, port, username=os.environ["DEVICE_TOKEN"])
device.connect()
deadline = time.monotonic() + 30
while not device.is_connected() and time.monotonic() < deadline:
    time.sleep(0.05)
assert device.is_connected(), "the device is not connected"
info = device.claim(secret_key="s3cret", duration=60000)
assert info.rc() == 0, info.rc()
info.get()
device.disconnect()

gateway = TBGatewayMqttClient(host, port, username=os.environ["GATEWAY_TOKEN"])
gateway.connect()
deadline = time.monotonic() + 30
while not gateway.is_connected() and time.monotonic() < deadline:
    time.sleep(0.05)
assert gateway.is_connected(), "the gateway is not connected"
gateway.gw_connect_device("tb-child-1")
claim = {
    "tb-child-1": {"secretKey": "child-secret", "durationMs": 60000},
    "tb-child-2": {"secretKey": "child-secret", "durationMs": 60000},
}
info = gateway.gw_claim(claim) if not hasattr(gateway, "gw_send_claim") else gateway.gw_send_claim(claim)
info.get()
gateway.disconnect()
