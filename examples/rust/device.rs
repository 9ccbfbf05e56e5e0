//! A device that speaks MQTT with rumqttc: announces itself and ends when that is registered.
//!
//! `cargo run --example device`, with `CLAIMD_MQTT`, `DEVICE_TOKEN` and `CLAIM_SECRET` set.

use std::time::Duration;

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::var("CLAIMD_MQTT")?;
    let (host, port) = address.rsplit_once(':').ok_or("CLAIMD_MQTT is host:port")?;
    let mut options = MqttOptions::new("example-device", host, port.parse()?);
    options.set_credentials(std::env::var("DEVICE_TOKEN")?, "");
    options.set_keep_alive(Duration::from_secs(30));

    let (client, mut connection) = Client::new(options, 8);
    let claim = serde_json::json!({"secretKey": std::env::var("CLAIM_SECRET")?, "durationMs": 600_000});
    client.publish("v1/devices/me/claim", QoS::AtLeastOnce, false, claim.to_string())?;
    for event in connection.iter() {
        // MQTT 3.1.1 cannot say no: a refused claim closes the connection, which is an error here.
        if let Event::Incoming(Packet::PubAck(_)) = event? {
            print(&mut std::io::stdout(), "registered")?;
            client.disconnect()?;
            return Ok(());
        }
    }
    Err("the connection ended without an ack".into())
}

fn print(to: &mut impl std::io::Write, line: &str) -> std::io::Result<()> {
    writeln!(to, "{line}")
}
