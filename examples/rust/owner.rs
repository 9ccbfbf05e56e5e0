//! An owner who signs in and claims a device by name.
//!
//! `cargo run --example owner`, with `CLAIMD_HTTP`, `OWNER_EMAIL`, `OWNER_PASSWORD`, `DEVICE_NAME` and `CLAIM_SECRET` set.

use std::io::Write as _;

use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("set {name}"));
    let base = format!("http://{}", variable("CLAIMD_HTTP")?);
    let account = json!({"username": variable("OWNER_EMAIL")?, "password": variable("OWNER_PASSWORD")?});
    let pair: Value = serde_json::from_reader(
        ureq::post(format!("{base}/api/auth/login"))
            .header("Content-Type", "application/json")
            .send(account.to_string())?
            .body_mut()
            .as_reader(),
    )?;
    let bearer = format!("Bearer {}", pair["token"].as_str().ok_or("no token")?);
    let body = json!({"secretKey": variable("CLAIM_SECRET")?});
    // A name with other characters than these is percent-encoded.
    let answer = ureq::post(format!("{base}/api/customer/device/{}/claim", variable("DEVICE_NAME")?))
        .header("X-Authorization", &bearer)
        .header("Content-Type", "application/json")
        .send(body.to_string())?
        .body_mut()
        .read_to_string()?;
    let answer: Value = serde_json::from_str(&answer)?;
    writeln!(std::io::stdout(), "{}", answer["response"].as_str().unwrap_or("refused"))?;
    Ok(())
}
