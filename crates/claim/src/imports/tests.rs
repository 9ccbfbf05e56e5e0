use super::*;
use crate::applications::{CodeView, Place};
use crate::device::{DeviceId, DeviceName};
use crate::eui::Eui64;
use crate::owner::CustomerId;

fn id(text: &str) -> ListingId {
    ListingId::parse(text).expect("an id")
}

fn row() -> GoodRow {
    GoodRow {
        listing: id("pump-7"),
        label: None,
        identity: Identity { dev_eui: Some(Eui64::from_bytes([7; 8])), ..Identity::default() },
        claiming_allowed: None,
        code: None,
        window: (None, None),
        generated: false,
        root_keys: RootKeys::default(),
        root_keys_exposed: false,
    }
}

fn code() -> NewCode {
    NewCode { code: Secret::new("BEEF1234".to_owned()), any_case: true, from: None, until: None }
}

fn device(last: u8, listing: &str) -> ListedDevice {
    let home = Place { application: id("spring"), device: id(listing) };
    ListedDevice {
        device: DeviceId::from_bytes([last; 16]),
        tenant: TenantId::from_bytes([1; 16]),
        name: DeviceName::parse(listing).expect("a name"),
        label: None,
        place: home.clone(),
        home,
        identity: row().identity,
        owner: None,
        claimed_at: None,
        claiming_allowed: None,
        frozen: false,
        presence: false,
        code: None,
        root_keys: false,
        root_keys_exposed: false,
        created_at: Timestamp::from_millis(0),
        version: 0,
    }
}

fn known(device: Option<ListedDevice>) -> Known {
    Known { application: Some(id("spring")), by_dev_eui: device, same_keys: true, ..Known::default() }
}

fn refusal((verdict, _): (Verdict, Vec<RowFault>)) -> String {
    match verdict {
        Verdict::Refuse(faults) => faults[0].code.to_string(),
        other => panic!("{other:?}"),
    }
}

const CODE_VIEW: CodeView =
    CodeView { from: None, until: Some(Timestamp::from_millis(9)), set_at: Timestamp::from_millis(1) };

#[test]
fn an_unknown_device_is_made_unless_its_id_or_eui_is_anothers() {
    assert_eq!(judge(&row(), &known(None)).0, Verdict::Create);
    assert_eq!(refusal(judge(&row(), &Known { id_taken: true, ..known(None) })), "name_taken");
    assert_eq!(refusal(judge(&row(), &Known { dev_eui_elsewhere: true, ..known(None) })), "dev_eui_taken");
}

#[test]
fn a_device_that_is_so_already_is_unchanged_and_what_is_not_given_stays() {
    let mut kept = device(1, "pump-7");
    kept.label = Some("Pump 7".to_owned());
    kept.identity.serial_number = Some("S1".to_owned());
    assert_eq!(judge(&row(), &known(Some(kept.clone()))).0, Verdict::Unchanged);
    let renamed = GoodRow { label: Some("Pump".to_owned()), ..row() };
    assert_eq!(judge(&renamed, &known(Some(kept))).0, Verdict::Update { set_code: false });
}

#[test]
fn different_devices_are_a_conflict_and_other_applications_keep_theirs() {
    let both = Known { by_id: Some(device(2, "pump-7")), ..known(Some(device(1, "pump-1"))) };
    assert_eq!(refusal(judge(&row(), &both)), "identity_conflict");
    let both = Known { by_external_id: Some(device(3, "pump-3")), ..known(Some(device(1, "pump-1"))) };
    assert_eq!(refusal(judge(&row(), &both)), "identity_conflict");
    let elsewhere = Known { application: Some(id("summer")), ..known(Some(device(1, "pump-7"))) };
    assert_eq!(refusal(judge(&row(), &elsewhere)), "other_application");
}

#[test]
fn a_device_keeps_its_id_and_says_so() {
    let (verdict, warnings) = judge(&row(), &known(Some(device(1, "pump-1"))));
    assert_eq!((verdict, warnings[0].code.as_ref()), (Verdict::Unchanged, "id_kept"));
}

#[test]
fn a_code_is_set_once_and_its_window_moves_alone() {
    let with_code = GoodRow { code: Some(code()), ..row() };
    let mut kept = device(1, "pump-7");
    assert_eq!(judge(&with_code, &known(Some(kept.clone()))).0, Verdict::Update { set_code: true });
    kept.code = Some(CODE_VIEW);
    let same = |device: &ListedDevice| Known { same_code: true, ..known(Some(device.clone())) };
    assert_eq!(judge(&with_code, &same(&kept)).0, Verdict::Unchanged, "a window that is not given stays");
    let mut later = GoodRow { code: Some(code()), ..row() };
    later.code.as_mut().expect("a code").until = Some(Timestamp::from_millis(10));
    assert_eq!(judge(&later, &same(&kept)).0, Verdict::Update { set_code: false });
}

#[test]
fn a_window_that_would_be_empty_with_what_is_stored_is_refused() {
    let mut row = GoodRow { code: Some(code()), ..row() };
    row.code.as_mut().expect("a code").from = Some(Timestamp::from_millis(9));
    let mut kept = device(1, "pump-7");
    kept.code = Some(CODE_VIEW);
    let known = Known { same_code: true, ..known(Some(kept.clone())) };
    assert_eq!(refusal(judge(&row, &known)), "claim_authentication_code", "it ends at 9");
    row.code.as_mut().expect("a code").from = Some(Timestamp::from_millis(8));
    assert_eq!(judge(&row, &known).0, Verdict::Update { set_code: false });
    assert_eq!(merged_window(&row, &kept), Some((Some(Timestamp::from_millis(8)), CODE_VIEW.until)));
}

#[test]
fn a_window_alone_is_that_of_the_code_the_device_has() {
    let until = |millis| GoodRow { window: (None, Some(Timestamp::from_millis(millis))), ..row() };
    let mut kept = device(1, "pump-7");
    assert_eq!(refusal(judge(&until(9), &known(None))), "claim_authentication_code", "a new device has none");
    assert_eq!(refusal(judge(&until(9), &known(Some(kept.clone())))), "claim_authentication_code");
    kept.code = Some(CODE_VIEW);
    assert_eq!(judge(&until(9), &known(Some(kept.clone()))).0, Verdict::Unchanged, "the same file again");
    assert_eq!(judge(&until(10), &known(Some(kept.clone()))).0, Verdict::Update { set_code: false });
    kept.code = None;
    kept.owner = Some(CustomerId::from_bytes([5; 16]));
    assert_eq!(judge(&until(9), &known(Some(kept))).0, Verdict::Unchanged, "the code is spent");
}

#[test]
fn a_generated_code_replaces_none() {
    let generated = GoodRow { code: Some(code()), generated: true, ..row() };
    let mut kept = device(1, "pump-7");
    assert_eq!(judge(&generated, &known(Some(kept.clone()))).0, Verdict::Update { set_code: true });
    kept.code = Some(CODE_VIEW);
    assert_eq!(judge(&generated, &known(Some(kept.clone()))).0, Verdict::Unchanged);
    kept.code = None;
    kept.owner = Some(CustomerId::from_bytes([5; 16]));
    assert_eq!(judge(&generated, &known(Some(kept))).0, Verdict::Unchanged);
}

#[test]
fn a_claimed_device_takes_no_code_keys_or_identity() {
    let mut kept = device(1, "pump-7");
    kept.owner = Some(CustomerId::from_bytes([5; 16]));
    let with_code = GoodRow { code: Some(code()), ..row() };
    assert_eq!(refusal(judge(&with_code, &known(Some(kept.clone())))), "device_claimed");
    let spent = Known { same_code: true, ..known(Some(kept.clone())) };
    assert_eq!(judge(&with_code, &spent).0, Verdict::Unchanged, "the code it was claimed with");
    let keys = Known { same_keys: false, ..known(Some(kept.clone())) };
    assert_eq!(refusal(judge(&row(), &keys)), "device_claimed");
    let mut renumbered = row();
    renumbered.identity.serial_number = Some("S2".to_owned());
    assert_eq!(refusal(judge(&renumbered, &known(Some(kept.clone())))), "device_claimed");
    let renamed = GoodRow { label: Some("Mine".to_owned()), ..row() };
    let (verdict, warnings) = judge(&renamed, &known(Some(kept)));
    assert_eq!((verdict, warnings[0].code.as_ref()), (Verdict::Unchanged, "texts_kept"));
}

#[test]
fn keys_are_set_when_they_differ_and_exposed_once() {
    let kept = device(1, "pump-7");
    let keys = Known { same_keys: false, ..known(Some(kept.clone())) };
    assert_eq!(judge(&row(), &keys).0, Verdict::Update { set_code: false });
    let exposed = GoodRow { root_keys_exposed: true, ..row() };
    assert_eq!(judge(&exposed, &known(Some(kept.clone()))).0, Verdict::Update { set_code: false });
    let owned = ListedDevice { owner: Some(CustomerId::from_bytes([5; 16])), ..kept.clone() };
    assert_eq!(judge(&exposed, &known(Some(owned))).0, Verdict::Expose);
    let kept = ListedDevice { root_keys_exposed: true, ..kept };
    assert_eq!(judge(&exposed, &known(Some(kept))).0, Verdict::Unchanged);
}
