//! Labels' squares: on the terminal, or as files.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use claim::{Eui64, Secret};
use claim_codes::image::Symbol;
use claim_codes::qr::{EndDevice, Format, write};
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Client, segment};
use super::show::Shown;
use super::{Done, Stop, ended, member};
use crate::cli::remote::{Image, QrArgs};
use crate::out::{self, Exit};

pub(crate) fn qr(args: &QrArgs) -> Exit {
    ended(try_qr(args))
}

fn try_qr(args: &QrArgs) -> Done<Exit> {
    if args.application == "formats" && args.device.is_none() {
        let formats: Vec<Value> = Format::WRITTEN.iter().map(|format| json!({"format": format.id()})).collect();
        Shown::many(&args.remote, &["format"]).rows(&formats);
        return Ok(Exit::Done);
    }
    let format = Format::of_id(&args.format)
        .filter(|format| Format::WRITTEN.contains(format))
        .ok_or_else(|| Stop::usage(format!("there is no format `{}`", args.format), "see `claimd qr formats`"))?;
    let client = Client::of(&args.remote)?;
    let devices = format!("/api/claimd/v1/applications/{}/devices", segment(&args.application));
    let found = match &args.device {
        Some(device) => vec![client.get(&format!("{devices}/{}", segment(device)))?],
        None if args.all => client.all(&devices)?,
        None => return Err(Stop::usage("which device?", "name one, or say --all")),
    };
    // One that cannot be drawn keeps nobody else's label back.
    let mut missing = Vec::new();
    for device in &found {
        match draw(args, &client, &devices, device, format) {
            Ok(()) => {}
            Err(stop) if args.all && stop.exit == Exit::Refused => {
                out::talk(format!("refused  {}", stop.what));
                missing.push(stop);
            }
            Err(stop) => return Err(stop),
        }
    }
    match missing.pop() {
        None => Ok(Exit::Done),
        Some(stop) if missing.len() + 1 == found.len() => Err(stop),
        Some(_) => {
            out::talk(format!("drew  {} of {}", found.len() - missing.len() - 1, found.len()));
            Ok(Exit::Partly)
        }
    }
}

/// A link leads to where people reach the server, which the server knows and we need not.
fn link(client: &Client, device: &EndDevice) -> Done<Secret<String>> {
    let mut end_device = json!({"ids": {"device_id": device.name}});
    if let Some(code) = &device.code {
        end_device["claim_authentication_code"] = json!({"value": code.expose()});
    }
    let body = json!({"format_id": Format::ClaimdUrl.id(), "end_device": end_device});
    let made = client.ask(Method::POST, "/api/v3/qr-codes/end-devices", Some(&body))?;
    Ok(Secret::new(made["text"].as_str().unwrap_or_default().to_owned()))
}

fn draw(args: &QrArgs, client: &Client, devices: &str, device: &Value, format: Format) -> Done {
    let id = device["id"].as_str().unwrap_or_default();
    // Without a code the square only says which device it is.
    let code = match member(device, "code") {
        Some(_) => client.get(&format!("{devices}/{}/code", segment(id)))?["value"].as_str().map(str::to_owned),
        None => None,
    };
    let text = |name: &str| member(device, name).and_then(Value::as_str).map(str::to_owned);
    let number =
        |name: &str| member(device, name).and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok());
    let payload = EndDevice {
        join_eui: text("joinEui").and_then(|eui| Eui64::parse(&eui).ok()),
        dev_eui: text("devEui").and_then(|eui| Eui64::parse(&eui).ok()),
        profile: number("vendorId").zip(number("vendorProfileId")),
        name: text("name"),
        code: code.map(Secret::new),
        serial: text("serialNumber"),
        ..EndDevice::default()
    };
    let refused = |what: String| Stop::new(Exit::Refused, format!("{id}: {what}"), "try another --format or --size");
    let text = match format {
        Format::ClaimdUrl => link(client, &payload)?,
        _ => write(format, &payload, client.url()).map_err(|fault| refused(fault.to_string()))?,
    };
    let symbol = Symbol::new(text.expose()).map_err(|fault| refused(fault.to_string()))?;
    let (bytes, ending) = match args.image {
        Image::Utf8 => {
            out::data(format!("{id}\n{}", symbol.half_blocks()));
            return Ok(());
        }
        Image::Png => (symbol.png(args.size).map_err(|fault| refused(fault.to_string()))?, "png"),
        Image::Svg => (symbol.svg().into_bytes(), "svg"),
    };
    let path = args.out.join(format!("{id}.{ending}"));
    let written = || -> std::io::Result<()> {
        std::fs::create_dir_all(&args.out)?;
        // It holds the code.
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(&bytes)
    };
    written()
        .map_err(|error| Stop::usage(format!("`{}` cannot be written: {error}", path.display()), "give --out DIR"))?;
    out::data(path.display().to_string());
    Ok(())
}
