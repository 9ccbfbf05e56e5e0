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
for child in ("tb-child-1", "tb-child-2"):
    info = gateway.gw_claim(child, "child-secret", 60000)
    info.get()
gateway.disconnect()
