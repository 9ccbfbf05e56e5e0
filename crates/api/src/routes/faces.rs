//! The routes of listed devices: our own, and those that The Things Stack's clients call.

use axum::routing::{delete, get, post, put};

use super::{applications, device_settings, edcs, imports, qr_codes};
use crate::docs::{Op, Table};
use crate::listed::{ApplicationJson, CodeJson, ListedJson};

/// Our own routes: applications, listed devices, claim codes.
pub(super) fn listings(table: Table) -> Table {
    const APPLICATION: &str = "/api/claimd/v1/applications/{application}";
    const DEVICE: &str = "/api/claimd/v1/applications/{application}/devices/{device}";
    const CODE: &str = "/api/claimd/v1/applications/{application}/devices/{device}/code";
    let op = |summary| Op::new("Applications", summary).refuses(404, "unknown or not yours");
    table
        .get(
            "/api/claimd/v1/applications",
            Op::new("Applications", "Applications: a maker's all, a customer's own").page::<ApplicationJson>().paged(),
            get(applications::list),
        )
        .post(
            "/api/claimd/v1/applications",
            Op::new("Applications", "Make an application")
                .body::<applications::ApplicationRequest>()
                .answer::<ApplicationJson>(),
            post(applications::create),
        )
        .get(APPLICATION, op("One application").answer::<ApplicationJson>(), get(applications::one))
        .put(
            APPLICATION,
            op("Change an application; claims that were made stay")
                .body::<applications::ApplicationUpdate>()
                .answer::<ApplicationJson>(),
            put(applications::change),
        )
        .delete(APPLICATION, op("Remove an application in which nothing is listed"), delete(applications::remove))
        .get(
            "/api/claimd/v1/applications/{application}/devices",
            op("Devices listed in an application").page::<ListedJson>().paged(),
            get(applications::devices),
        )
        .post(
            "/api/claimd/v1/applications/{application}/devices",
            op("Register a device; a generated code is shown once")
                .body::<applications::DeviceRequest>()
                .answer::<ListedJson>(),
            post(applications::register),
        )
        .get(DEVICE, op("One device where it is listed now").answer::<ListedJson>(), get(applications::device))
        .delete(DEVICE, op("Remove a device that has no owner"), delete(applications::remove_device))
        .put(
            DEVICE,
            op("Pause or allow claiming, or ask for presence; what is left out stays")
                .body::<applications::DeviceUpdate>()
                .answer::<ListedJson>(),
            put(applications::change_device),
        )
        .post(
            "/api/claimd/v1/applications/{application}/devices/{device}/rotate-token",
            op("Give a device a new access token, shown once; the old one and its sessions end")
                .answer::<applications::NewToken>(),
            post(applications::rotate_token),
        )
        .post(
            "/api/claimd/v1/applications/{application}/devices/{device}/force-release",
            op("Take a device from its owner, with the reason for the audit log")
                .body::<applications::ForcedRelease>()
                .answer::<ListedJson>(),
            post(applications::force_release),
        )
        .put(
            CODE,
            op("Store or generate a claim code, or change its window; a generated one is shown once")
                .body::<applications::CodeRequest>()
                .answer::<ListedJson>(),
            put(applications::set_code),
        )
        .get(CODE, op("Read a claim code; audited").answer::<CodeJson>(), get(applications::read_code))
        .delete(
            CODE,
            op("Delete a claim code; a claim is untouched").answer::<ListedJson>(),
            delete(applications::delete_code),
        )
        .put(
            "/api/claimd/v1/applications/{application}/devices/{device}/claiming-allowed",
            op("The maker's word on one device").body::<applications::Allowed>().answer::<ListedJson>(),
            put(applications::allow),
        )
}

/// Our own routes for many devices at once.
pub(super) fn imports(table: Table) -> Table {
    const IMPORT: &str = "/api/claimd/v1/imports/{importId}";
    let op = |summary| Op::new("Imports", summary).refuses(404, "unknown or not yours");
    table
        .post(
            "/api/claimd/v1/applications/{application}/imports",
            op("Import devices from the file in the body; every row is checked before any is written")
                .query("format", false, "the-things-stack-csv, the-things-stack or microchip; guessed when left out")
                .query("joinEui", false, "of a manifest's devices; 70B3D57ED0000000 when left out")
                .query("dryRun", false, "true: only check")
                .query("onError", false, "abort (nothing is written if any row is bad) or skip; abort when left out")
                .query("generateCodes", false, "base32 or hex8: devices without a code get one")
                .answer::<imports::ImportJson>()
                .refuses(413, "the file is too large, or has too many rows"),
            post(imports::begin),
        )
        .get(
            "/api/claimd/v1/imports",
            Op::new("Imports", "Imports, newest first").page::<imports::ImportJson>().paged(),
            get(imports::list),
        )
        .get(IMPORT, op("One import").answer::<imports::ImportJson>(), get(imports::one))
        .delete(IMPORT, op("Forget an import that is over; its devices stay"), delete(imports::remove))
        .post(
            "/api/claimd/v1/imports/{importId}/stop",
            op("Stop an import that is being applied").answer::<imports::ImportJson>(),
            post(imports::stop),
        )
        .post(
            "/api/claimd/v1/imports/{importId}/resume",
            op("Let a stopped import go on").answer::<imports::ImportJson>(),
            post(imports::resume),
        )
        .get(
            "/api/claimd/v1/imports/{importId}/rows",
            op("What became of each row")
                .list::<imports::RowJson>()
                .query("after", false, "only rows after this one")
                .query("limit", false, "1 to 1,000; 100 when left out")
                .query("failed", false, "true: only bad rows and those not applied"),
            get(imports::rows),
        )
        .get(
            "/api/claimd/v1/imports/{importId}/codes",
            op("The generated codes as CSV, until they are acknowledged; audited").text(),
            get(imports::codes),
        )
        .delete(
            "/api/claimd/v1/imports/{importId}/codes",
            op("The codes are kept safe; this import gives them no more"),
            delete(imports::acknowledge),
        )
        .get(
            "/api/claimd/v1/applications/{application}/export",
            op("Devices at home in an application, as a file that an import reads; audited")
                .text()
                .query("format", false, "the-things-stack-csv (when left out) or the-things-stack")
                .query("codes", false, "true: with their claim codes"),
            get(imports::export_devices),
        )
        .post(
            "/api/claimd/v1/applications/{application}/devices/batch",
            op("Change settings and codes of up to 1,000 devices, each with its result")
                .body::<device_settings::BatchRequest>()
                .answer::<device_settings::BatchResults>(),
            post(device_settings::batch),
        )
        .post(
            "/api/claimd/v1/applications/{application}/devices/{device}/export-root-keys",
            op("Read a device's root keys; audited, and they count as exposed from then on")
                .answer::<device_settings::RootKeysJson>(),
            post(device_settings::export_root_keys),
        )
}

/// The Things Stack's claiming and QR code routes.
pub(super) fn stack(table: Table) -> Table {
    let claiming = |summary| Op::new("The Things Stack: claiming", summary);
    let codes = |summary| Op::new("The Things Stack: QR codes", summary);
    table
        .post(
            "/api/v3/edcs/claim",
            claiming("Claim a device into an application, by identifiers or by the text of a QR code")
                .body::<edcs::ClaimRequest>()
                .answer::<edcs::EndDeviceIds>()
                .refuses(409, "right code: another's already, or the id is in use")
                .refuses(429, "out of tries"),
            post(edcs::claim),
        )
        .get(
            "/api/v3/edcs/claim/{application}/devices/{device}",
            claiming("A claim as it stands").answer::<edcs::ClaimStatus>().refuses(404, "unknown or not claimed"),
            get(edcs::status),
        )
        .delete(
            "/api/v3/edcs/claim/{application}/devices/{device}",
            claiming("Give a device back").object().refuses(404, "unknown or not claimed"),
            delete(edcs::unclaim),
        )
        .delete(
            "/api/v3/edcs/claim/{application}/devices/batch",
            claiming("Give up to 20 devices back, each by itself")
                .query("device_ids", true, "repeated for each")
                .answer::<edcs::BatchUnclaimed>(),
            delete(edcs::unclaim_batch),
        )
        .post(
            "/api/v3/edcs/claim/info",
            claiming("Whether devices of a JoinEUI are claimed here")
                .public()
                .body::<edcs::InfoRequest>()
                .answer::<edcs::Info>(),
            post(edcs::info),
        )
        .post(
            "/api/v3/edcs/claim/info/batch",
            claiming("The same for up to 20 JoinEUIs").public().body::<edcs::InfosRequest>().answer::<edcs::Infos>(),
            post(edcs::infos),
        )
        .post(
            "/api/v3/edcs/applications/{application}/authorize",
            claiming("Let the devices of an application be claimed").body::<edcs::Authorization>().object(),
            post(edcs::authorize),
        )
        .delete(
            "/api/v3/edcs/applications/{application}/authorize",
            claiming("Let them be claimed no more; claims that were made stay").object(),
            delete(edcs::unauthorize),
        )
        .get("/api/v3/qr-codes/end-devices/formats", codes("Formats that are written").object(), get(qr_codes::formats))
        .get(
            "/api/v3/qr-codes/end-devices/formats/{format}",
            codes("One format").object().refuses(404, "no such format"),
            get(qr_codes::format),
        )
        .post(
            "/api/v3/qr-codes/end-devices",
            codes("The text of a device's QR code, and its picture")
                .body::<qr_codes::GenerateRequest>()
                .answer::<qr_codes::Generated>()
                .refuses(404, "no such format"),
            post(qr_codes::generate),
        )
        .post(
            "/api/v3/qr-codes/end-devices/parse",
            codes("Read the text of a QR code").body::<qr_codes::ParseRequest>().object(),
            post(qr_codes::parse_device),
        )
        .post(
            "/api/v3/qr-codes/end-devices/{format}/parse",
            codes("Read the text of a QR code of one format")
                .body::<qr_codes::ParseRequest>()
                .object()
                .refuses(404, "no such format"),
            post(qr_codes::parse_device_as),
        )
        .post(
            "/api/v3/qr-codes/gateways/parse",
            codes("Read the text of a gateway's QR code").body::<qr_codes::ParseRequest>().object(),
            post(qr_codes::parse_gateway),
        )
        .post(
            "/api/v3/qr-codes/gateways/{format}/parse",
            codes("The same, of one format").body::<qr_codes::ParseRequest>().object().refuses(404, "no such format"),
            post(qr_codes::parse_gateway_as),
        )
}
