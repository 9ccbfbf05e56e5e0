//! The file an owner claims many devices from: CSV with a column `qr`, or `dev_eui` and `join_eui`, or `name`, and the code.
//! The file of codes that an import hands out has both; there the QR text counts, which is what is printed on the device.

use std::io::BufRead;

use claim::{Eui64, Secret};

use super::csv::{NotUtf8, Table};
use super::{Fault, FileFault};

/// How a row names its device. The text of a QR code has the code in it.
#[derive(Debug)]
pub enum Claimed {
    /// The text of a QR code.
    Qr(Secret<String>),
    /// By what is printed on it.
    Eui {
        /// Its DevEUI.
        dev_eui: Eui64,
        /// Its JoinEUI.
        join_eui: Eui64,
        /// The code.
        code: Secret<String>,
    },
    /// By its name.
    Name {
        /// Its name.
        name: String,
        /// The code.
        code: Secret<String>,
    },
}

/// A row: one claim.
#[derive(Debug)]
pub struct ClaimRow {
    /// The line where it starts; the header is line 1.
    pub row: u64,
    /// The device as the row names it, for reports; nothing of a QR text.
    pub device: String,
    /// The claim, or all that is wrong with it.
    pub claimed: Result<Claimed, Vec<Fault>>,
    /// Where to list it, if the row says.
    pub target_application: Option<String>,
    /// Under which id, if the row says.
    pub target_device: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Qr,
    DevEui,
    JoinEui,
    Name,
    Code,
    Application,
    Device,
    /// What a file of codes says beside.
    Beside,
}

impl Column {
    fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "qr" => Self::Qr,
            "dev_eui" => Self::DevEui,
            "join_eui" | "app_eui" => Self::JoinEui,
            "name" => Self::Name,
            "claim_authentication_code" | "owner_token" => Self::Code,
            "target_application_id" => Self::Application,
            "target_device_id" => Self::Device,
            "id" | "claim_valid_from" | "claim_valid_to" => Self::Beside,
            _ => return None,
        })
    }
}

/// A file under way.
pub struct Claims<R: BufRead> {
    table: Table<R>,
    columns: Vec<Option<Column>>,
    /// What is to be said of the file as a whole: columns that are not known.
    pub warnings: Vec<Fault>,
}

impl<R: BufRead> Claims<R> {
    /// Begins to read.
    pub fn new(reader: R) -> Result<Self, FileFault> {
        let table = Table::new(reader)?;
        let (columns, warnings) = table.columns(Column::of_name, |column| *column != Column::Beside)?;
        Ok(Self { table, columns, warnings })
    }

    fn row(&self, line: u64) -> ClaimRow {
        let mut faults = Vec::new();
        let mut refuse = |column: &str, code: &'static str, reason: &str| {
            faults.push(Fault { column: column.to_owned(), value: None, code, reason: reason.to_owned() });
        };
        if let Some(reason) = self.table.miscounted() {
            refuse("", "cell_count", &reason);
        }
        let mut given: [Option<&str>; 8] = [None; 8];
        for (column, (name, cell)) in self.columns.iter().zip(self.table.cells()) {
            let Some(column) = column else { continue };
            match cell {
                Ok(text) => given[*column as usize] = Some(text).filter(|text| !text.is_empty()),
                Err(NotUtf8) => refuse(name, "not_utf8", "the text is not UTF-8"),
            }
        }
        let get = |column: Column| given[column as usize];
        let mut eui = |column: Column, name: &str| {
            let parsed = get(column).map(Eui64::parse).transpose();
            parsed.unwrap_or_else(|fault| {
                refuse(name, "invalid_eui", &fault.to_string());
                None
            })
        };
        let (dev_eui, join_eui) = (eui(Column::DevEui, "dev_eui"), eui(Column::JoinEui, "join_eui"));
        let code = get(Column::Code).map(|code| Secret::new(code.to_owned()));
        let device = get(Column::Name).or(get(Column::DevEui)).unwrap_or("(QR code)").to_owned();
        let claimed = match (get(Column::Qr), dev_eui, get(Column::Name), code) {
            (Some(_), _, Some(_), _) => {
                refuse("name", "two_devices", "a row has `qr` or `name`, not both");
                None
            }
            (Some(text), dev_eui, None, _) => {
                if dev_eui.is_some_and(|dev_eui| is_another(text, dev_eui)) {
                    refuse("dev_eui", "two_devices", "the QR text is of another device");
                }
                Some(Claimed::Qr(Secret::new(text.to_owned())))
            }
            (None, Some(_), Some(_), _) => {
                refuse("name", "two_devices", "a row has `dev_eui` or `name`, not both");
                None
            }
            (None, Some(dev_eui), None, Some(code)) => {
                if join_eui.is_none() {
                    refuse("join_eui", "no_join_eui", "the JoinEUI is missing");
                }
                join_eui.map(|join_eui| Claimed::Eui { dev_eui, join_eui, code })
            }
            (None, None, Some(name), Some(code)) => Some(Claimed::Name { name: name.to_owned(), code }),
            (None, None, None, _) => {
                if get(Column::DevEui).is_none() {
                    refuse("dev_eui", "no_device", "no device: `qr`, `dev_eui` or `name` is needed");
                }
                None
            }
            (None, _, _, None) => {
                refuse("claim_authentication_code", "no_claim_authentication_code", "the code is missing");
                None
            }
        };
        let claimed = match claimed {
            Some(claimed) if faults.is_empty() => Ok(claimed),
            _ => Err(faults),
        };
        let text = |column: Column| get(column).map(str::to_owned);
        let (target_application, target_device) = (text(Column::Application), text(Column::Device));
        ClaimRow { row: line, device, claimed, target_application, target_device }
    }
}

/// Whether a QR text names a device with another DevEUI.
fn is_another(text: &str, dev_eui: Eui64) -> bool {
    match crate::qr::parse(text, "") {
        Ok((_, crate::qr::Payload::EndDevice(device))) => device.dev_eui.is_some_and(|other| other != dev_eui),
        _ => false,
    }
}

impl<R: BufRead> Iterator for Claims<R> {
    type Item = Result<ClaimRow, FileFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.table.advance()?;
        Some(line.map(|line| self.row(line)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn read(text: &str) -> Vec<ClaimRow> {
        Claims::new(Cursor::new(text.to_owned())).unwrap().map(|row| row.unwrap()).collect()
    }

    #[test]
    fn a_row_is_a_qr_text_or_a_device_and_its_code() {
        let rows = read(
            "qr;dev_eui;join_eui;name;owner_token;target_application_id;target_device_id\n\
             LW:D0:x;;;;;my-house;\n\
             ;0004A30B001C0501;70B3D57ED0000000;;BEEF1234;;cellar\n\
             ;;;Pump 7;BEEF1234;;\n",
        );
        assert!(matches!(&rows[0].claimed, Ok(Claimed::Qr(text)) if text.expose() == "LW:D0:x"));
        assert_eq!((rows[0].target_application.as_deref(), rows[0].device.as_str()), (Some("my-house"), "(QR code)"));
        assert!(matches!(&rows[1].claimed, Ok(Claimed::Eui { code, .. }) if code.expose() == "BEEF1234"));
        assert_eq!((rows[1].row, rows[1].target_device.as_deref()), (3, Some("cellar")));
        assert!(matches!(&rows[2].claimed, Ok(Claimed::Name { name, .. }) if name == "Pump 7"));
        assert!(!format!("{rows:?}").contains("BEEF1234"));
    }

    #[test]
    fn a_file_of_codes_is_a_file_of_claims() {
        let rows = read(
            "id;dev_eui;join_eui;claim_authentication_code;claim_valid_from;claim_valid_to;qr\n\
             pump-1;0004A30B001C0501;70B3D57ED0000000;BEEF1234;;;LW:D0:70B3D57ED0000000:0004A30B001C0501:00000000:OBEEF1234\n\
             pump-2;0004A30B001C0502;70B3D57ED0000000;BEEF1234;;;LW:D0:70B3D57ED0000000:0004A30B001C0501:00000000:OBEEF1234\n",
        );
        assert!(matches!(&rows[0].claimed, Ok(Claimed::Qr(text)) if text.expose().starts_with("LW:D0:")));
        assert!(matches!(&rows[1].claimed, Err(faults) if faults[0].code == "two_devices"));
    }

    #[test]
    fn what_is_wrong_with_a_row_is_named_and_the_next_is_read() {
        let rows = read(
            "qr,dev_eui,join_eui,name,claim_authentication_code\n\
             LW,,,pump,BEEF1234\n\
             ,00GG,,,BEEF1234\n\
             ,0004A30B001C0501,,,BEEF1234\n\
             ,0004A30B001C0501,70B3D57ED0000000,pump,BEEF1234\n\
             ,,,pump,\n\
             ,,,,BEEF1234\n\
             ,,,pump\n\
             ,,,pump,BEEF1234\n",
        );
        let codes = |row: &ClaimRow| match &row.claimed {
            Ok(_) => Vec::new(),
            Err(faults) => faults.iter().map(|fault| fault.code).collect(),
        };
        let found: Vec<Vec<&str>> = rows.iter().map(codes).collect();
        let expected: [&[&str]; 8] = [
            &["two_devices"],
            &["invalid_eui"],
            &["no_join_eui"],
            &["two_devices"],
            &["no_claim_authentication_code"],
            &["no_device"],
            &["cell_count", "no_claim_authentication_code"],
            &[],
        ];
        assert_eq!(found, expected);
        assert!(Claims::new(Cursor::new("colour\nred\n")).is_err());
        assert!(Claims::new(Cursor::new("qr,qr\n")).is_err());
    }
}
