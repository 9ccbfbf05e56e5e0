//! Import jobs, exports, and changes of many devices at once: makers' work that neither ThingsBoard nor The Things Stack
//! names.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use claim::applications::By;
use claim::directory::PageRequest;
use claim::imports::{ImportCounts, ImportDraft, ImportId, ImportJob, ImportState, OnError, RowFault, RowResult};
use claim::{ListingId, TenantId};
use claim_codes::Eui64;
use claim_codes::export::{self, ExportFormat};
use claim_codes::import::{FileFormat, manifest};
use claim_codes::window::show_instant;
use http_body_util::StreamBody;
use hyper::body::Frame;
use listener::LongBody;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{One, Page, Paging};
use crate::Api;
use crate::extract::{Asked, At, Caller};
use crate::imports::{Arriving, How};
use crate::model::PageJson;
use crate::reply::Fault;

/// Rows that one look fetches for a stream.
const FETCHED: u32 = 500;

/// How many rows are what.
#[derive(Serialize, ToSchema)]
pub(crate) struct CountsJson {
    rows: u64,
    created: u64,
    updated: u64,
    unchanged: u64,
    failed: u64,
}

impl From<ImportCounts> for CountsJson {
    fn from(counts: ImportCounts) -> Self {
        let ImportCounts { rows, created, updated, unchanged, failed } = counts;
        Self { rows, created, updated, unchanged, failed }
    }
}

/// A fault of a row, or something its maker should know.
#[derive(Serialize, ToSchema)]
pub(crate) struct FaultJson {
    /// A column of CSV, a path in JSON; empty: the row as a whole.
    column: String,
    /// What stands there; never a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    code: String,
    /// What should stand there.
    reason: String,
}

impl From<RowFault> for FaultJson {
    fn from(fault: RowFault) -> Self {
        Self { column: fault.column, value: fault.value, code: fault.code.into_owned(), reason: fault.reason }
    }
}

/// An import job.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImportJson {
    id: Uuid,
    application: String,
    format: String,
    /// `abort` or `skip`.
    on_error: OnErrorJson,
    dry_run: bool,
    /// `checking`, `checked` (a dry run is over), `refused` (bad rows, nothing written), `broken` (the file did not arrive
    /// whole), `applying`, `stopped` (may be resumed) or `done`.
    state: &'static str,
    /// What the check found.
    checked: CountsJson,
    /// What was written.
    applied: CountsJson,
    /// Generated codes that wait to be handed over.
    codes: u64,
    /// What is to be said of the file as a whole.
    warnings: Vec<FaultJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    created_at: String,
    changed_at: String,
}

#[derive(Serialize, Deserialize, ToSchema, Clone, Copy, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnErrorJson {
    #[default]
    Abort,
    Skip,
}

impl From<ImportJob> for ImportJson {
    fn from(job: ImportJob) -> Self {
        Self {
            id: job.id.uuid(),
            application: job.application.to_string(),
            format: job.format,
            on_error: match job.on_error {
                OnError::Abort => OnErrorJson::Abort,
                OnError::Skip => OnErrorJson::Skip,
            },
            dry_run: job.dry_run,
            state: job.state.name(),
            checked: job.checked.into(),
            applied: job.applied.into(),
            codes: job.codes,
            warnings: job.warnings.into_iter().map(FaultJson::from).collect(),
            reason: job.reason,
            created_at: show_instant(job.created_at),
            changed_at: show_instant(job.changed_at),
        }
    }
}

/// How a file is to be taken.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Options {
    format: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    on_error: OnErrorJson,
    generate_codes: Option<String>,
    join_eui: Option<String>,
}

pub(crate) async fn begin(
    State(api): State<Api>,
    caller: Caller,
    At(application): At<String>,
    Asked(options): Asked<Options>,
    request: Request,
) -> One<ImportJson> {
    let tenant = caller.maker()?.tenant;
    let application = ListingId::parse(&application).map_err(|_| Fault::not_found())?;
    let generate = options
        .generate_codes
        .as_deref()
        .map(|style| api.style(style).ok_or_else(|| Fault::bad_request("`generateCodes` is `base32` or `hex8`")));
    let generate = generate.transpose()?;
    let format = options.format.as_deref().map(|format| {
        let known = "`format` is `the-things-stack-csv`, `the-things-stack` or `microchip`";
        FileFormat::of_id(format).ok_or_else(|| Fault::bad_request(known))
    });
    let format = format.transpose()?;
    if let Some(long) = request.extensions().get::<LongBody>() {
        long.expect();
    }
    let join_eui = options.join_eui.as_deref().map_or(Ok(manifest::JOIN_EUI), |eui| {
        Eui64::parse(eui).map_err(|fault| Fault::bad_request(format!("`joinEui`: {fault}")))
    })?;
    let config = api.config();
    let arriving = Arriving::begin(api.clone(), request.into_body()).await?;
    let how = How {
        format: format.unwrap_or_else(|| arriving.guess()),
        generate,
        most: config.import_rows,
        manifest: manifest::Options { join_eui, ..manifest::Options::at(api.now()) },
    };
    let draft = ImportDraft {
        application,
        format: how.format.id().to_owned(),
        on_error: match options.on_error {
            OnErrorJson::Abort => OnError::Abort,
            OnErrorJson::Skip => OnError::Skip,
        },
        dry_run: options.dry_run,
        most: config.imports_per_tenant,
    };
    let begun = api.imports().begin_import(tenant, draft, by(&api, &caller)).await;
    let job = api.within("owner_api.imports_per_tenant", begun)?;
    Ok(Json(arriving.stage(tenant, job.id, how).await?.into()))
}

fn by(api: &Api, caller: &Caller) -> By {
    By { account: caller.0.id, now: api.now() }
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller, Asked(paging): Asked<Paging>) -> Page<ImportJson> {
    let tenant = caller.maker()?.tenant;
    let (request, size, number) = paging.checked()?;
    let page = api.imports().import_jobs(tenant, PageRequest { text: None, ..request }).await?;
    // What is to be said of each file is in the job itself.
    Ok(Json(PageJson::new(page, size, number, |job| ImportJson { warnings: Vec::new(), ..job.into() })))
}

pub(crate) async fn one(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> One<ImportJson> {
    let tenant = caller.maker()?.tenant;
    Ok(Json(api.imports().import_job(tenant, id.into()).await?.into()))
}

pub(crate) async fn stop(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> One<ImportJson> {
    let tenant = caller.maker()?.tenant;
    Ok(Json(api.imports().stop_import(tenant, id.into(), by(&api, &caller)).await?.into()))
}

pub(crate) async fn resume(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> One<ImportJson> {
    let tenant = caller.maker()?.tenant;
    let most = api.config().imports_per_tenant;
    let resumed = api.imports().resume_import(tenant, id.into(), most, by(&api, &caller)).await;
    let job = api.within("owner_api.imports_per_tenant", resumed)?;
    api.inner.parts.imports_wait.notify_one();
    Ok(Json(job.into()))
}

pub(crate) async fn remove(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> Result<StatusCode, Fault> {
    let tenant = caller.maker()?.tenant;
    api.imports().delete_import(tenant, id.into(), by(&api, &caller)).await?;
    Ok(StatusCode::OK)
}

/// A slice of a job's rows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Slice {
    #[serde(default)]
    after: u64,
    limit: Option<u32>,
    #[serde(default)]
    failed: bool,
}

/// What became of a row.
#[derive(Serialize, ToSchema)]
pub(crate) struct RowJson {
    /// The line where it starts (the header is line 1), or the number of the object.
    row: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// `created`, `updated`, `unchanged`, `failed` or `not_applied`.
    status: &'static str,
    errors: Vec<FaultJson>,
    warnings: Vec<FaultJson>,
}

impl From<RowResult> for RowJson {
    fn from(row: RowResult) -> Self {
        let faults = |faults: Vec<RowFault>| faults.into_iter().map(FaultJson::from).collect();
        let (errors, warnings) = (faults(row.errors), faults(row.warnings));
        Self { row: row.row, id: row.id, status: row.status.name(), errors, warnings }
    }
}

pub(crate) async fn rows(
    State(api): State<Api>,
    caller: Caller,
    At(id): At<Uuid>,
    Asked(slice): Asked<Slice>,
) -> One<Vec<RowJson>> {
    let tenant = caller.maker()?.tenant;
    let limit = slice.limit.unwrap_or(100);
    if !(1..=1000).contains(&limit) {
        return Err(Fault::bad_request("`limit` is not 1 to 1000"));
    }
    let rows = api.imports().import_rows(tenant, id.into(), slice.after, limit, slice.failed).await?;
    Ok(Json(rows.into_iter().map(RowJson::from).collect()))
}

/// The generated codes, once: they are given until they are acknowledged.
pub(crate) async fn codes(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> Result<Response, Fault> {
    let (tenant, id) = (caller.maker()?.tenant, ImportId::from(id));
    let job = api.imports().import_job(tenant, id).await?;
    if job.codes == 0 {
        return Err(Fault::not_found());
    }
    if job.state != ImportState::Done {
        return Err(Fault::conflict("the import is not done and may still generate codes; ask when it is"));
    }
    api.imports().note_codes_read(tenant, id, by(&api, &caller)).await?;
    let public_url = api.inner.parts.public_url.trim_end_matches('/').to_owned();
    Ok(stream("text/csv; charset=utf-8", move |lines| async move {
        let mut after = 0;
        lines.send(export::CODES_HEADER).await?;
        loop {
            let codes = api.imports().generated_codes(tenant, id, after, FETCHED).await?;
            let Some(last) = codes.last() else { return Ok(()) };
            after = last.row;
            let text: String = codes.iter().map(|code| export::codes_row(code, &public_url).to_string()).collect();
            lines.send(&text).await?;
        }
    }))
}

pub(crate) async fn acknowledge(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> Result<StatusCode, Fault> {
    let tenant = caller.maker()?.tenant;
    api.imports().acknowledge_codes(tenant, id.into(), by(&api, &caller)).await?;
    Ok(StatusCode::OK)
}

/// What is to be in an export.
#[derive(Deserialize)]
pub(crate) struct ExportOptions {
    format: Option<String>,
    #[serde(default)]
    codes: bool,
}

/// Every device at home in an application, in a format that an import reads.
pub(crate) async fn export_devices(
    State(api): State<Api>,
    caller: Caller,
    At(application): At<String>,
    Asked(options): Asked<ExportOptions>,
) -> Result<Response, Fault> {
    let tenant = caller.maker()?.tenant;
    let application = ListingId::parse(&application).map_err(|_| Fault::not_found())?;
    let format = match options.format.as_deref() {
        None => ExportFormat::Csv,
        Some(format) => ExportFormat::of_id(format)
            .ok_or_else(|| Fault::bad_request("`format` is `the-things-stack-csv` or `the-things-stack`"))?,
    };
    let with_codes = options.codes;
    api.imports().note_export(tenant, application.clone(), with_codes, by(&api, &caller)).await?;
    Ok(stream(format.media_type(), move |lines| export(api, tenant, application, format, with_codes, lines)))
}

async fn export(
    api: Api,
    tenant: TenantId,
    application: ListingId,
    format: ExportFormat,
    with_codes: bool,
    lines: Lines,
) -> Result<(), Stopped> {
    lines.send(&format.head()).await?;
    let mut after = None;
    loop {
        let home = application.clone();
        let devices = api.imports().devices_at_home(tenant, home, after, with_codes, FETCHED).await?;
        let Some((last, _)) = devices.last() else { return Ok(()) };
        after = Some(last.home.device.clone());
        let rows = devices.iter().map(|(device, code)| format.row(device, code.as_ref()).to_string());
        lines.send(&rows.collect::<String>()).await?;
    }
}

/// Where a stream's lines go.
struct Lines(mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>);

/// The stream ends early: its reader is gone, or the registry does not answer.
struct Stopped;

impl From<claim::directory::DirectoryError> for Stopped {
    fn from(_: claim::directory::DirectoryError) -> Self {
        Self
    }
}

impl Lines {
    async fn send(&self, text: &str) -> Result<(), Stopped> {
        self.0.send(Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes())))).await.map_err(|_| Stopped)
    }
}

/// An answer that is written as it is read; one that breaks off is told by its connection.
fn stream<W, F>(media: &'static str, write: W) -> Response
where
    W: FnOnce(Lines) -> F,
    F: Future<Output = Result<(), Stopped>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(4);
    let writing = write(Lines(sender.clone()));
    tokio::spawn(async move {
        if writing.await.is_err() {
            let _ = sender.send(Err(std::io::Error::other("the registry does not answer"))).await;
        }
    });
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    ([(header::CONTENT_TYPE, media)], Body::new(StreamBody::new(frames))).into_response()
}
