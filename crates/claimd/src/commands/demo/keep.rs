//! `--keep`: a furnished server to play with, and lines to paste.

use super::cast::{Cast, MAKER, OPERATOR};
use super::{End, sign_in};
use crate::out;

/// Makes some unclaimed devices and says how to claim them.
pub(super) async fn furnish(cast: &Cast) -> Result<(), End> {
    let (pump, lamp, door) =
        (cast.device("pump", false).await?, cast.device("lamp", false).await?, cast.device("door", false).await?);
    let hub = cast.device("hub", true).await?;
    let addresses = &cast.server.addresses;
    let (mqtt_host, mqtt_port) = addresses.mqtt.rsplit_once(':').unwrap_or((&addresses.mqtt, "1883"));
    let bearer = cast.alice.bearer();
    let coap_client = coap_client();
    let body = r#"'{"secretKey":"s3cret","durationMs":600000}'"#;
    let passwords = &cast.passwords;
    out::data(format!(
        "\nthe server goes on, until Ctrl-C; its folder goes with it\n\
         \n  http   {}      owner API, device HTTP\n  mqtt   {}\n  ws     {}/mqtt\n  coap   {}/udp\n  admin  {}      \
         /healthz /readyz /metrics\n\
         \nsign in (POST /api/auth/login) with\n  {OPERATOR:<24} {}   operator: tenants\n  {MAKER:<24} {}   maker: devices\n  \
         {}   owner\n  {}   owner",
        addresses.http,
        addresses.mqtt,
        addresses.ws,
        addresses.coap,
        cast.server.admin,
        passwords.operator,
        passwords.maker,
        sign_in(&cast.alice, &passwords.alice),
        sign_in(&cast.bob, &passwords.bob),
    ));
    let (coap_host, coap_port) = addresses.coap.rsplit_once(':').unwrap_or((&addresses.coap, "5683"));
    out::data(format!(
        "\ndevices' authors start from a program, and see why a message is refused\n\
         \nclaimd login --url http://{} --name {MAKER}\nclaimd watch\n\
         claimd snippet --lang c --transport coap --device lamp --host {coap_host} --port {coap_port}\n\
         CLAIMD_TOKEN={lamp} CLAIMD_SECRET=s3cret ./claim",
        addresses.http,
    ));
    out::data(format!(
        "\ndevices say that they may be claimed\n\
         \nmosquitto_pub -h {mqtt_host} -p {mqtt_port} -V 5 -u {pump} -q 1 -t v1/devices/me/claim -m {body}\n\
         {coap_client} -m post -e {body} coap://{}/api/v1/{lamp}/claim\n\
         curl -i -d {body} http://{}/api/v1/{door}/claim\n\
         mosquitto_pub -h {mqtt_host} -p {mqtt_port} -V 5 -u {hub} -q 1 -t v1/gateway/claim -m \
         '{{\"child-a\":{{\"secretKey\":\"s3cret\"}},\"child-b\":{{}}}}'\n\
         \nAlice takes them (her token lives 15 minutes; sign in for another), and gives one back\n\nALICE={bearer}",
        addresses.coap, addresses.http,
    ));
    for name in ["pump", "lamp", "door", "child-a"] {
        out::data(format!(
            "curl -i -H 'X-Authorization: Bearer '$ALICE -H 'Content-Type: application/json' -d '{{\"secretKey\":\"s3cret\"}}' \
             http://{}/api/customer/device/{name}/claim",
            addresses.http
        ));
    }
    out::data(format!(
        "curl -i -X DELETE -H 'X-Authorization: Bearer '$ALICE http://{}/api/customer/device/pump/claim",
        addresses.http
    ));
    Ok(())
}

/// libcoap's client, by the name it has here: Debian tells its builds apart.
fn coap_client() -> &'static str {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|folder| folder.join("coap-client").exists());
    if there { "coap-client" } else { "coap-client-notls" }
}
