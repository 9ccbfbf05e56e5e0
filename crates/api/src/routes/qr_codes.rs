//! The Things Stack's QR code generator: formats, texts, images, reading (claim-codes.md 7 and 10).

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use claim::{Eui64, Secret};
use claim_codes::eui::parse_lenient;
use claim_codes::image::{ImageFault, PNG_PIXELS, Symbol};
use claim_codes::qr::{self, EndDevice, Format, Payload, QrFault, WriteFault};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::Api;
use crate::extract::{At, Caller, Raw, parse};
use crate::stack::{Code, Refused};

type Reply<T> = Result<Json<T>, Refused>;

/// Side of an image that names no size, in pixels.
const PIXELS: u32 = 300;

fn described(format: Format) -> Value {
    let (name, about, paths): (_, _, &[&str]) = match format {
        Format::Tr005 => (
            "LoRa Alliance TR005",
            "Standard QR code format by LoRa Alliance",
            &["ids.join_eui", "ids.dev_eui", "claim_authentication_code.value", "serial_number"],
        ),
        Format::ClaimdUrl => (
            "Claim link",
            "Opens the claim page from any camera",
            &["ids.device_id", "claim_authentication_code.value"],
        ),
        _ => ("ThingsBoard JSON", "ThingsBoard's claim QR", &["ids.device_id", "claim_authentication_code.value"]),
    };
    json!({"name": name, "description": about, "field_mask": {"paths": paths}})
}

pub(crate) async fn formats(_: Caller) -> Json<Value> {
    let all: Map<String, Value> =
        Format::WRITTEN.into_iter().map(|format| (format.id().to_owned(), described(format))).collect();
    Json(json!({"formats": all}))
}

pub(crate) async fn format(_: Caller, At(id): At<String>) -> Reply<Value> {
    written(&id).map(|format| Json(described(format)))
}

fn written(id: &str) -> Result<Format, Refused> {
    let found = Format::of_id(id).filter(|format| Format::WRITTEN.contains(format));
    found.ok_or_else(|| no_format(id))
}

fn no_format(id: &str) -> Refused {
    Refused::new(Code::NotFound, "format_not_found", "there is no QR code format `{id}`").with("id", id)
}

#[derive(Deserialize, Serialize, ToSchema)]
pub(crate) struct DeviceIds {
    #[serde(alias = "deviceId", skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
    #[serde(alias = "devEui", skip_serializing_if = "Option::is_none")]
    dev_eui: Option<String>,
    #[serde(alias = "joinEui", skip_serializing_if = "Option::is_none")]
    join_eui: Option<String>,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct CodeValue {
    #[schema(value_type = String)]
    value: Secret<String>,
}

#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
pub(crate) struct AllianceIds {
    #[serde(alias = "vendorId", default)]
    vendor_id: u16,
    #[serde(alias = "vendorProfileId", default)]
    vendor_profile_id: u16,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct DeviceMessage {
    ids: DeviceIds,
    #[serde(alias = "claimAuthenticationCode")]
    claim_authentication_code: Option<CodeValue>,
    #[serde(alias = "loraAllianceProfileIds")]
    lora_alliance_profile_ids: Option<AllianceIds>,
    #[serde(alias = "serialNumber")]
    serial_number: Option<String>,
}

/// How the picture is wanted.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ImageRequest {
    /// 10 to 1,000 pixels a side.
    #[serde(alias = "imageSize", default)]
    image_size: u32,
    /// `png`, or `svg`.
    format: Option<String>,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct GenerateRequest {
    #[serde(alias = "formatId")]
    format_id: String,
    #[serde(alias = "endDevice")]
    end_device: DeviceMessage,
    image: Option<ImageRequest>,
}

/// A text, and its picture if one was asked for. Both hold the code.
#[derive(Serialize, ToSchema)]
pub(crate) struct Generated {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    image: Option<Value>,
}

pub(crate) async fn generate(
    State(api): State<Api>,
    _: Caller,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Reply<Generated> {
    let request: GenerateRequest = parse(&body)?;
    let format = written(&request.format_id)?;
    let device = request.end_device;
    let eui = |text: Option<String>| match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => parse_lenient(&text)
            .map(Some)
            .map_err(|fault| Refused::invalid("invalid_eui", "{rule}").with("rule", fault.to_string())),
    };
    let device = EndDevice {
        join_eui: eui(device.ids.join_eui)?,
        dev_eui: eui(device.ids.dev_eui)?,
        profile: device.lora_alliance_profile_ids.map(|ids| (ids.vendor_id, ids.vendor_profile_id)),
        name: device.ids.device_id.filter(|name| !name.is_empty()),
        code: device.claim_authentication_code.map(|code| code.value).filter(|code| !code.expose().is_empty()),
        serial: device.serial_number.filter(|serial| !serial.is_empty()),
        ..EndDevice::default()
    };
    let text = qr::write(format, &device, &super::base(&api, &headers)).map_err(|fault| unwritten(&fault))?;
    let image = request.image.map(|image| picture(text.expose(), &image)).transpose()?;
    Ok(Json(Generated { text: text.expose().clone(), image }))
}

fn unwritten(fault: &WriteFault) -> Refused {
    let code = match fault {
        WriteFault::NoJoinEui | WriteFault::NoDevEui => Code::FailedPrecondition,
        _ => Code::InvalidArgument,
    };
    Refused::new(code, fault.name(), fault.to_string())
}

fn picture(text: &str, wanted: &ImageRequest) -> Result<Value, Refused> {
    let pixels = if wanted.image_size == 0 { PIXELS } else { wanted.image_size };
    if !PNG_PIXELS.contains(&pixels) {
        return Err(Refused::invalid("invalid_argument", "`image_size` is 10 to 1000"));
    }
    let refused = |fault: ImageFault| Refused::invalid("qr_code_data", fault.to_string());
    let symbol = Symbol::new(text).map_err(refused)?;
    let (mime, data) = match wanted.format.as_deref() {
        None | Some("png") => ("image/png", symbol.png(pixels).map_err(refused)?),
        Some("svg") => ("image/svg+xml", symbol.svg().into_bytes()),
        Some(_) => return Err(Refused::invalid("invalid_argument", "`image.format` is `png` or `svg`")),
    };
    Ok(json!({"embedded": {"mime_type": mime, "data": STANDARD.encode(data)}}))
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct ParseRequest {
    /// Base64 of what was scanned.
    #[serde(alias = "qrCode")]
    #[schema(value_type = String)]
    qr_code: Secret<String>,
}

pub(crate) async fn parse_device(
    State(api): State<Api>,
    _: Caller,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Reply<Value> {
    let request: ParseRequest = parse(&body)?;
    let text = text_of(request.qr_code.expose())?;
    let (format, payload) = qr::parse(text.expose(), &super::base(&api, &headers)).map_err(unread)?;
    template(format, payload)
}

pub(crate) async fn parse_device_as(
    State(api): State<Api>,
    _: Caller,
    At(id): At<String>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Reply<Value> {
    let format = Format::of_id(&id).ok_or_else(|| no_format(&id))?;
    let request: ParseRequest = parse(&body)?;
    let text = text_of(request.qr_code.expose())?;
    let payload = qr::parse_as(format, text.expose(), &super::base(&api, &headers)).map_err(unread)?;
    template(format, payload)
}

fn template(format: Format, payload: Payload) -> Reply<Value> {
    let Payload::EndDevice(device) = payload else {
        return Err(Refused::invalid("qr_code_data", "this is a gateway's QR code"));
    };
    let mut paths = Vec::new();
    let (mut ids, mut message) = (Map::new(), Map::new());
    let eui = |eui: Option<Eui64>| eui.map(|eui| eui.to_string());
    for (name, value) in
        [("join_eui", eui(device.join_eui)), ("dev_eui", eui(device.dev_eui)), ("device_id", device.name)]
    {
        if let Some(value) = value {
            paths.push(format!("ids.{name}"));
            ids.insert(name.to_owned(), value.into());
        }
    }
    message.insert("ids".to_owned(), ids.into());
    if let Some(code) = &device.code {
        paths.push("claim_authentication_code.value".to_owned());
        message.insert("claim_authentication_code".to_owned(), json!({"value": code.expose()}));
    }
    if let Some((vendor_id, vendor_profile_id)) = device.profile {
        paths.push("lora_alliance_profile_ids".to_owned());
        let ids = AllianceIds { vendor_id, vendor_profile_id };
        message.insert("lora_alliance_profile_ids".to_owned(), json!(ids));
    }
    if let Some(serial) = device.serial {
        paths.push("serial_number".to_owned());
        message.insert("serial_number".to_owned(), serial.into());
    }
    Ok(Json(json!({
        "format_id": format.id(),
        "end_device_template": {"end_device": message, "field_mask": {"paths": paths}},
    })))
}

pub(crate) async fn parse_gateway(_: Caller, Raw(body): Raw) -> Reply<Value> {
    gateway(&body)
}

pub(crate) async fn parse_gateway_as(_: Caller, At(id): At<String>, Raw(body): Raw) -> Reply<Value> {
    if id != Format::TtigPro1.id() {
        return Err(no_format(&id));
    }
    gateway(&body)
}

fn gateway(body: &[u8]) -> Reply<Value> {
    let request: ParseRequest = parse(body)?;
    let text = text_of(request.qr_code.expose())?;
    match qr::parse_as(Format::TtigPro1, text.expose(), "").map_err(unread)? {
        Payload::Gateway { eui, owner_token } => Ok(Json(json!({
            "format_id": Format::TtigPro1.id(), "gateway_eui": eui.to_string(), "owner_token": owner_token.expose(),
        }))),
        Payload::EndDevice(_) => Err(Refused::invalid("qr_code_data", "this is an end device's QR code")),
    }
}

/// The text that a `qr_code` member holds: base64 of 10 to 1,024 bytes, standard or URL-safe, padded or not.
pub(crate) fn text_of(base64: &str) -> Result<Secret<String>, Refused> {
    const ANY_PADDING: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const PLAIN: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);
    let refused = || Refused::invalid("qr_code_data", "`qr_code` is base64 of 10 to 1024 bytes of text");
    let bytes = PLAIN.decode(base64).or_else(|_| URL_SAFE.decode(base64)).map_err(|_| refused())?;
    let bytes = Secret::new(bytes);
    if !(10..=qr::PAYLOAD_BYTES).contains(&bytes.expose().len()) {
        return Err(refused());
    }
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| refused())?;
    Ok(Secret::new(text.to_owned()))
}

pub(crate) fn unread(fault: QrFault) -> Refused {
    Refused::invalid(fault.name(), fault.to_string())
}
