//! Manifests of secure elements: an array of entries, each a flattened JWS that a log signer of the maker has signed, with
//! the part's certificates inside. An entry is believed when seven checks hold, all of them offline:
//!
//! 1. form and sizes, `manifest_malformed`; ES256 only and no `crit`, `manifest_algorithm`
//! 2. the signer is configured, `manifest_unknown_signer`
//! 3. its signature is right, `manifest_signature`
//! 4. the unique ids agree, `manifest_unique_id`
//! 5. the key is that of the part's certificate, `manifest_key_mismatch`
//! 6. the certificates lead to a configured root, `manifest_chain`
//! 7. the DevEUI is one, and not that of an entry before, `manifest_dev_eui`
//!
//! Until its signature is right the first fault of an entry ends it, and its payload is not looked into. Of an entry that is
//! the signer's, all that checks 4 to 6 find is named. Nothing is asked of the network: no revocation, no time stamps.

mod certificate;
mod element;
mod envelope;
#[cfg(test)]
mod tests;
mod trust;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::BufRead;

use claim::{Eui64, Timestamp};

pub use trust::{Trust, TrustFault, TrustFaultKind, TrustList};

use super::fields::{Builder, Field};
use super::objects::Objects;
use super::{Fault, FileFault, Row};
use element::Element;

/// The JoinEUI of devices in a manifest, which names none: that of The Things Join Server.
pub const JOIN_EUI: Eui64 = Eui64::from_bytes([0x70, 0xb3, 0xd5, 0x7e, 0xd0, 0, 0, 0]);
/// The first three bytes of the maker's own DevEUIs.
const MAKERS_OUI: [u8; 3] = [0x00, 0x04, 0xa3];

/// How a manifest is read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Against which certificates' dates are held.
    pub now: Timestamp,
    /// The JoinEUI that its devices get.
    pub join_eui: Eui64,
}

impl Options {
    /// At `now`, with [`JOIN_EUI`].
    pub fn at(now: Timestamp) -> Self {
        Self { now, join_eui: JOIN_EUI }
    }
}

/// The entries of a manifest under way.
pub(super) struct Entries<R: BufRead> {
    objects: Objects<R>,
    trust: Trust,
    options: Options,
    /// The DevEUIs of good entries so far, and where they were: 16 bytes an entry, of which a file has thousands.
    seen: HashMap<Eui64, u64>,
}

impl<R: BufRead> Entries<R> {
    /// Begins to read. The warnings are about trusted certificates whose dates are over, or to come.
    pub(super) fn new(reader: R, trust: &Trust, options: Options) -> Result<(Self, Vec<Fault>), FileFault> {
        let objects = Objects::new(reader)?;
        if !objects.in_array() {
            return Err(FileFault::NoArray);
        }
        let reason = "a certificate is not valid today by its dates";
        let warnings = trust.out_of_date(options.now).map(|list| fault(&list.to_string(), "manifest_dates", reason));
        let warnings = warnings.collect();
        Ok((Self { objects, trust: trust.clone(), options, seen: HashMap::new() }, warnings))
    }

    pub(super) fn next(&mut self) -> Option<Result<Row, FileFault>> {
        let next = self.objects.next()?;
        Some(next.map(|(number, object)| self.read(number, &object)))
    }

    fn read(&mut self, row: u64, object: &[u8]) -> Row {
        let refused = |faults| Row { row, id: None, outcome: Err(faults), warnings: Vec::new() };
        let opened = match envelope::open(object, &self.trust) {
            Ok(opened) => opened,
            Err(fault) => return refused(vec![fault]),
        };
        let element = match Element::parse(&opened.payload) {
            Ok(element) => element,
            Err(fault) => return refused(vec![fault]),
        };
        let (dev_eui, mut faults) = element.judge(opened.unique_id.as_deref(), &self.trust);
        if faults.is_empty() {
            faults.extend(dev_eui.and_then(|eui| self.repeat(row, eui)));
        }
        let mut row = self.device(&element, dev_eui).finish(row);
        if !faults.is_empty() {
            row.outcome = Err(faults);
        }
        row.warnings.extend(self.warnings(&element, dev_eui));
        row
    }

    /// A DevEUI that a good entry had already. One of a bad entry does not count: anybody could spoil the good one with it.
    fn repeat(&mut self, row: u64, eui: Eui64) -> Option<Fault> {
        match self.seen.entry(eui) {
            Entry::Vacant(free) => {
                free.insert(row);
                None
            }
            Entry::Occupied(before) => {
                let reason = format!("entry {} has the same DevEUI", before.get());
                let repeated = fault("", "manifest_dev_eui", reason);
                Some(Fault { value: shown(&eui.to_string()), ..repeated })
            }
        }
    }

    fn device(&self, element: &Element, dev_eui: Option<Eui64>) -> Builder {
        let mut device = Builder::default();
        device.set(Field::ExternalId, "payload.uniqueId", &element.unique_id);
        if let Some(eui) = dev_eui {
            device.set(Field::DevEui, "dev_eui", &eui.to_string());
        }
        device.set(Field::JoinEui, "join_eui", &self.options.join_eui.to_string());
        let model = element.model.as_deref().unwrap_or_default();
        device.set(Field::Text("secure_element_model"), "payload.model", model);
        let part_number = element.part_number.as_deref().unwrap_or_default();
        device.set(Field::Text("secure_element_part_number"), "payload.partNumber", part_number);
        device.attest(element.leaf.public_key(), element.provisioner.clone());
        device
    }

    fn warnings(&self, element: &Element, dev_eui: Option<Eui64>) -> Vec<Fault> {
        let mut warnings = Vec::new();
        for (certificate, whose) in [(&element.leaf, "part"), (&element.signer, "signer")] {
            if !certificate.is_valid_at(self.options.now) {
                let reason = format!("the {whose}'s certificate is not valid today by its dates");
                warnings.push(fault("payload.publicKeySet.keys[0].x5c", "manifest_dates", reason));
            }
        }
        if let Some(eui) = dev_eui.filter(|eui| !eui.as_bytes().starts_with(&MAKERS_OUI)) {
            let foreign = fault("dev_eui", "manifest_oui", "the DevEUI is not from the maker's block 0004A3");
            warnings.push(Fault { value: shown(&eui.to_string()), ..foreign });
        }
        warnings
    }
}

/// Whether a file that begins so is a manifest: an array whose first object begins with a member of a JWS.
pub(super) fn begins(head: &[u8]) -> bool {
    let after = |text: &[u8], mark: u8| -> Option<usize> {
        let at = text.iter().position(|byte| !byte.is_ascii_whitespace())?;
        (text[at] == mark).then_some(at + 1)
    };
    let mut rest = head;
    for mark in *b"[{\"" {
        let Some(at) = after(rest, mark) else { return false };
        rest = &rest[at..];
    }
    let members: [&[u8]; 4] = [b"payload\"", b"protected\"", b"header\"", b"signature\""];
    members.into_iter().any(|member| rest.starts_with(member))
}

fn fault(column: &str, code: &'static str, reason: impl Into<String>) -> Fault {
    Fault { column: column.to_owned(), value: None, code, reason: reason.into() }
}

/// What cannot be read: its place and never its text, which may be anything.
fn unreadable(column: &str, error: &serde_json::Error) -> Fault {
    let place = format!("line {} column {}", error.line(), error.column());
    let reason = match error.classify() {
        serde_json::error::Category::Data => format!("a member is missing, repeated or of another kind; {place} of it"),
        _ => format!("not JSON at {place} of it"),
    };
    fault(column, "manifest_malformed", reason)
}

/// An id as a fault shows it: nothing that is longer than an id, or is none.
fn shown(id: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (!id.is_empty() && id.len() <= 64 && id.bytes().all(plain)).then(|| id.to_owned())
}
