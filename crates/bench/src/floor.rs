//! The floors: programs that read the same bytes and write the same answers, and do nothing else.

use std::convert::Infallible;
use std::process::ExitCode;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Response;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Runs until it is killed.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let (Some(kind), Some(port)) = (arguments.first(), arguments.get(1)) else { return ExitCode::from(2) };
    let address = format!("127.0.0.1:{port}");
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    let ended = runtime.block_on(async {
        match kind.as_str() {
            "tcp" => serve(&address, |stream| async move { drop(respond(stream).await) }).await,
            "http" => serve(&address, |stream| async move { drop(hyper(stream).await) }).await,
            _ => echo(&address).await,
        }
    });
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn serve<F>(address: &str, handle: impl Fn(TcpStream) -> F) -> std::io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(handle(stream));
    }
}

/// Cuts MQTT packets by their length and answers CONNECT and PUBLISH, without looking into either.
async fn respond(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut buffer, mut filled) = (vec![0; 16 * 1024], 0);
    let mut answers = Vec::with_capacity(1024);
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut at = 0;
        while filled - at >= 2 {
            // Every packet of these benchmarks is shorter than 128 bytes.
            let length = 2 + usize::from(buffer[at + 1]);
            if filled - at < length {
                break;
            }
            match buffer[at] & 0xF0 {
                0x10 => answers.extend_from_slice(&[0x20, 2, 0, 0]),
                0x30 => {
                    let topic = usize::from(u16::from_be_bytes([buffer[at + 2], buffer[at + 3]]));
                    let id = at + 4 + topic;
                    answers.extend_from_slice(&[0x40, 2, buffer[id], buffer[id + 1]]);
                }
                _ => {}
            }
            at += length;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
        if !answers.is_empty() {
            stream.write_all(&answers).await?;
            answers.clear();
        }
    }
}

async fn hyper(stream: TcpStream) -> Result<(), hyper::Error> {
    let answer = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
        let _ = request.into_body().collect().await;
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await
}

async fn echo(address: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind(address).await?;
    let mut buffer = [0; 2048];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await?;
        socket.send_to(&buffer[..length], peer).await?;
    }
}
