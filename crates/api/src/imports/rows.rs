//! From what a file says to what the registry is asked.

use std::borrow::Cow;

use claim::Secret;
use claim::applications::{Identity, NewCode, RootKeys};
use claim::imports::{GoodRow, ImportRow, RowFault};
use claim_codes::import::{Fault, Record, Row};
use claim_codes::{ClaimCode, Style};

pub(super) fn fault(fault: Fault) -> RowFault {
    let Fault { column, value, code, reason } = fault;
    RowFault { column, value, code: Cow::Borrowed(code), reason }
}

/// A row; `None` when the system has no random bytes for its code.
pub(super) fn row(row: Row, generate: Option<Style>) -> Option<ImportRow> {
    let faults = |faults: Vec<Fault>| faults.into_iter().map(fault).collect();
    let outcome = match row.outcome {
        Ok(record) => Ok(Box::new(good(*record, generate)?)),
        Err(errors) => Err(faults(errors)),
    };
    Some(ImportRow { row: row.row, id: row.id, outcome, warnings: faults(row.warnings) })
}

fn good(record: Record, generate: Option<Style>) -> Option<GoodRow> {
    let (code, generated) = match (record.code, generate) {
        (Some(code), _) => (Some(code), false),
        (None, Some(style)) => (Some(made_up(style)?), true),
        (None, None) => (None, false),
    };
    let window = record.window;
    Some(GoodRow {
        listing: record.id,
        label: record.label,
        identity: Identity {
            dev_eui: record.dev_eui,
            join_eui: record.join_eui,
            external_id: record.external_id,
            serial_number: record.serial_number,
            vendor_id: record.vendor_id,
            vendor_profile_id: record.vendor_profile_id,
            description: record.description,
            texts: record.texts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect(),
            public_key: record.public_key,
            provisioner: record.provisioner,
        },
        claiming_allowed: record.claiming_allowed,
        window: if code.is_none() { (window.from(), window.to()) } else { (None, None) },
        code: code.map(|code| NewCode {
            any_case: code.all_upper(),
            code: Secret::new(code.expose().to_owned()),
            from: window.from(),
            until: window.to(),
        }),
        generated,
        root_keys: RootKeys { app_key: record.app_key, nwk_key: record.nwk_key },
        root_keys_exposed: record.root_keys_exposed,
    })
}

/// A code of fresh random bits.
pub(crate) fn made_up(style: Style) -> Option<ClaimCode> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).ok()?;
    Some(ClaimCode::generated(style, &random))
}
