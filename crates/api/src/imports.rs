//! Files of devices on their way in: a body is read row by row on a thread of its own, and its rows go to the registry a
//! hundred at a time. Memory stays flat whatever the file's size. What was staged is applied by [`run`].

mod rows;

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes};
use claim::directory::DirectoryError;
use claim::imports::{BATCH, ImportId, ImportJob, ImportRow, ImportStep, Imports, RowFault};
use claim::{TenantId, Timestamp};
use claim_codes::Style;
use claim_codes::import::manifest::{self, Trust};
use claim_codes::import::{FileFault, FileFormat, Reading};
use http_body_util::BodyExt;
use tokio::sync::{Notify, mpsc};

use crate::Api;
use crate::reply::Fault;

pub(crate) use rows::made_up;

/// How often jobs that are long over are looked for, and jobs of another node.
const ROUND: Duration = Duration::from_secs(60);

/// How long nothing of a file arrives before its job is broken.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// How a file is read.
#[derive(Clone, Copy)]
pub(crate) struct How {
    pub(crate) format: FileFormat,
    /// Rows without a code get one.
    pub(crate) generate: Option<Style>,
    /// Rows at the most.
    pub(crate) most: u64,
    /// How a manifest is read.
    pub(crate) manifest: manifest::Options,
}

/// A file that arrives.
pub(crate) struct Arriving {
    api: Api,
    body: Body,
    /// What was read to see which format it is.
    head: Bytes,
    left: u64,
}

enum Piece {
    Bytes(Bytes),
    /// Only this is the file's end; a body that breaks off just stops coming.
    End,
}

/// Why a file was not taken.
enum Broken {
    /// It cannot be read: the maker's to mend.
    File(String),
    TooLarge,
    Registry(DirectoryError),
}

impl Arriving {
    /// Waits for the first bytes.
    pub(crate) async fn begin(api: Api, body: Body) -> Result<Self, Fault> {
        let left = api.config().import_bytes;
        let mut arriving = Self { api, body, head: Bytes::new(), left };
        while arriving.head.is_empty() {
            match arriving.frame().await {
                Ok(Some(bytes)) => arriving.head = bytes,
                Ok(None) => return Err(Fault::bad_request("the file is empty; send it as the request's body")),
                Err(fault) => return Err(fault),
            }
        }
        Ok(arriving)
    }

    pub(crate) fn guess(&self) -> FileFormat {
        FileFormat::guess(&self.head)
    }

    async fn frame(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(_)) => return Err(Fault::bad_request("the file could not be read to its end; send it again")),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
                            self.api.limit_reached("owner_api.import_bytes");
                            return Err(Fault::too_large());
                        };
                        self.left = left;
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Stages the whole file. The job ends well or broken, also when the caller goes away.
    pub(crate) async fn stage(mut self, tenant: TenantId, job: ImportId, how: How) -> Result<ImportJob, Fault> {
        let (pieces, arriving) = mpsc::channel(8);
        let staging = tokio::spawn(stage(self.api.clone(), tenant, job, how, arriving));
        let mut head = Some(std::mem::take(&mut self.head));
        let sent = loop {
            let bytes = match head.take() {
                Some(head) => head,
                None => match self.frame().await {
                    Ok(Some(bytes)) => bytes,
                    Ok(None) => break pieces.send(Piece::End).await.map_err(|_| None),
                    Err(fault) => break Err(Some(fault)),
                },
            };
            // Nobody takes it any more: the answer says why.
            if pieces.send(Piece::Bytes(bytes)).await.is_err() {
                break Err(None);
            }
        };
        drop(pieces);
        if matches!(sent, Err(None)) {
            // Most clients read the answer only when they have sent all.
            while let Ok(Some(_)) = self.frame().await {}
        }
        let staged = staging.await.map_err(|_| Fault::unavailable())?;
        match (sent, staged) {
            (Err(Some(fault)), _) => Err(fault),
            (_, Ok(job)) => Ok(job),
            (_, Err(Broken::File(reason))) => Err(Fault::bad_request(reason)),
            (_, Err(Broken::TooLarge)) => {
                self.api.limit_reached("owner_api.import_rows");
                Err(Fault::new(
                    http::StatusCode::PAYLOAD_TOO_LARGE,
                    31,
                    format!("the file has more than {} rows; split it", how.most),
                ))
            }
            (_, Err(Broken::Registry(error))) => Err(error.into()),
        }
    }
}

async fn stage(
    api: Api,
    tenant: TenantId,
    job: ImportId,
    how: How,
    arriving: mpsc::Receiver<Piece>,
) -> Result<ImportJob, Broken> {
    let imports = api.imports();
    let trust = api.inner.parts.trust.clone();
    let (batches, mut read) = mpsc::channel::<Vec<ImportRow>>(2);
    let reading = tokio::task::spawn_blocking(move || read_all(Pieces::new(arriving), how, trust.as_ref(), &batches));
    let mut failed = None;
    while let Some(rows) = read.recv().await {
        if let Err(error) = imports.stage_import(tenant, job, rows, api.now()).await {
            failed = Some(Broken::Registry(error));
            break;
        }
    }
    drop(read);
    let outcome = match (failed, reading.await) {
        (Some(failed), _) => Err(failed),
        (None, Ok(outcome)) => outcome,
        (None, Err(_)) => Err(Broken::Registry(DirectoryError::Unavailable)),
    };
    let broken = match outcome {
        Ok(warnings) => match imports.end_staging(tenant, job, warnings, api.now()).await {
            Ok(job) => {
                api.inner.parts.imports_wait.notify_one();
                return Ok(job);
            }
            Err(error) => Broken::Registry(error),
        },
        Err(broken) => broken,
    };
    let reason = match &broken {
        Broken::File(reason) => reason.clone(),
        Broken::TooLarge => format!("the file has more than {} rows", how.most),
        Broken::Registry(_) => "the registry did not answer while the file arrived; send it again".to_owned(),
    };
    // If the registry does not answer now either, the job is broken when nothing has arrived for [`IDLE`].
    let _ = imports.break_import(tenant, job, reason, api.now()).await;
    api.inner.parts.imports_wait.notify_one();
    Err(broken)
}

/// Reads a file to its end; what is to be said of it as a whole.
fn read_all(
    pieces: Pieces,
    how: How,
    trust: Option<&Trust>,
    batches: &mpsc::Sender<Vec<ImportRow>>,
) -> Result<Vec<RowFault>, Broken> {
    let file = |fault: FileFault| Broken::File(fault.to_string());
    let reader = BufReader::with_capacity(64 * 1024, pieces);
    let reading = match (how.format, trust) {
        (FileFormat::Microchip, Some(trust)) => Reading::manifest(reader, trust, how.manifest),
        (format, _) => Reading::new(format, reader),
    };
    let mut reading = reading.map_err(file)?;
    let warnings = reading.warnings.drain(..).map(rows::fault).collect();
    let (mut batch, mut count) = (Vec::with_capacity(BATCH), 0);
    for row in reading {
        count += 1;
        if count > how.most {
            return Err(Broken::TooLarge);
        }
        let row = rows::row(row.map_err(file)?, how.generate);
        batch.push(row.ok_or(Broken::Registry(DirectoryError::Unavailable))?);
        if batch.len() == BATCH {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            // The other side has stopped, and says why.
            batches.blocking_send(full).map_err(|_| Broken::Registry(DirectoryError::Unavailable))?;
        }
    }
    if !batch.is_empty() {
        batches.blocking_send(batch).map_err(|_| Broken::Registry(DirectoryError::Unavailable))?;
    }
    Ok(warnings)
}

/// The pieces of a body as a reader.
struct Pieces {
    arriving: mpsc::Receiver<Piece>,
    piece: Bytes,
    over: bool,
}

impl Pieces {
    fn new(arriving: mpsc::Receiver<Piece>) -> Self {
        Self { arriving, piece: Bytes::new(), over: false }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.over {
            match self.arriving.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.piece = bytes,
                Some(Piece::End) => self.over = true,
                None => return Err(io::Error::other("it broke off before its end; send it again")),
            }
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Applies jobs, one after the other, until it is dropped; forgets those that have been over for `kept`. `wait` wakes it.
pub async fn run(
    imports: Arc<dyn Imports>,
    wait: Arc<Notify>,
    kept: Duration,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
) {
    // At a start nothing arrives any more.
    if let Err(error) = imports.break_idle_imports(clock(), clock()).await {
        tracing::error!(?error, "imports that were under way could not be looked at");
    }
    loop {
        if let Err(error) = round(&*imports, kept, &*clock).await {
            tracing::error!(?error, "an import does not go on; it is tried again");
        }
        let _ = tokio::time::timeout(ROUND, wait.notified()).await;
    }
}

async fn round(
    imports: &dyn Imports,
    kept: Duration,
    clock: &(dyn Fn() -> Timestamp + Send + Sync),
) -> Result<(), DirectoryError> {
    for (tenant, job) in imports.imports_to_apply().await? {
        if let Err(error) = apply(imports, tenant, job, clock).await {
            tracing::error!(job = %job.uuid(), ?error, "an import does not go on");
        }
    }
    imports.break_idle_imports(clock().minus(IDLE), clock()).await?;
    imports.purge_imports(clock().minus(kept)).await
}

/// One job, to its end. What stands in its way stops it alone, with the reason; a registry that does not answer is tried
/// again.
async fn apply(
    imports: &dyn Imports,
    tenant: TenantId,
    job: ImportId,
    clock: &(dyn Fn() -> Timestamp + Send + Sync),
) -> Result<(), DirectoryError> {
    loop {
        match imports.apply_import(tenant, job, clock()).await {
            Ok(ImportStep::More) => {}
            // Over, or deleted meanwhile.
            Ok(ImportStep::Over) | Err(DirectoryError::NotFound(_)) => return Ok(()),
            Err(DirectoryError::Unavailable) => return Err(DirectoryError::Unavailable),
            Err(DirectoryError::Refused(why) | DirectoryError::InUse(why) | DirectoryError::Taken(why)) => {
                imports.fail_import(tenant, job, why.to_owned(), clock()).await?;
                return Ok(());
            }
            Err(error @ DirectoryError::Full { .. }) => return Err(error),
        }
    }
}
