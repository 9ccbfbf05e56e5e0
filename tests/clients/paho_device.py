"""paho-mqtt claims for three devices: MQTT 3.1.1, MQTT 5, and MQTT 5 over WebSocket."""

import os
import paho.mqtt.client as mqtt


def claim(token, port, protocol, transport="tcp"):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=protocol, transport=transport)
    client.username_pw_set(token)
    if transport == "websockets":
        client.ws_set_options(path="/mqtt")
    client.connect(os.environ["MQTT_HOST"], port, keepalive=30)
    client.loop_start()
    message = client.publish("v1/devices/me/claim", '{"secretKey":"s3cret","durationMs":60000}', qos=1)
    message.wait_for_publish(timeout=30)
    assert message.is_published(), f"{protocol} over {transport}: no ack"
    client.disconnect()
    client.loop_stop()


first, second, third = os.environ["TOKENS"].split(",")
claim(first, int(os.environ["MQTT_PORT"]), mqtt.MQTTv311)
claim(second, int(os.environ["MQTT_PORT"]), mqtt.MQTTv5)
claim(third, int(os.environ["WS_PORT"]), mqtt.MQTTv5, "websockets")
