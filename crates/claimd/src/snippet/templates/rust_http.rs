// Says over HTTP that the device "{{device}}" may be claimed. Needs no crate: `rustc claim.rs && ./claim`.
// Set CLAIMD_TOKEN to the device's access token and CLAIMD_SECRET to what its owner will show. Then, as the owner, with
// the secret in code.txt:
//
//   {{confirm}}
//
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const DEVICE: &str = {{literal}};
const SERVER: &str = {{authority_literal}};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The token as a segment of the path, every byte encoded.
    let token: String = std::env::var("CLAIMD_TOKEN")?.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let body = format!(r#"{{"secretKey":"{}","durationMs":600000}}"#, json(&std::env::var("CLAIMD_SECRET")?));
    let mut stream = TcpStream::connect(SERVER)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        stream,
        "POST /api/v1/{token}/claim HTTP/1.1\r\nHost: {SERVER}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    // 200 means registered and visible to owners.
    if answer.starts_with("HTTP/1.1 200 ") {
        println!("{DEVICE}: registered");
        return Ok(());
    }
    let said = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    println!("{DEVICE}: refused: {said}");
    std::process::exit(1)
}

/// A text inside a JSON text.
fn json(text: &str) -> String {
    let mut written = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => written.extend(['\\', c]),
            c if c.is_control() => written += &format!("\\u{:04x}", u32::from(c)),
            c => written.push(c),
        }
    }
    written
}
