//! A device's own announcement, spoken like any stranger speaks it: no account, but the device's token.

use serde_json::json;
use simulator::{Addresses, Answer, Device, Encoding, Manner, Transport, Trouble, body};

use super::show::Shown;
use super::{Done, Stop, secret};
use crate::cli::remote::RemoteArgs;
use crate::cli::remote::claims::{DeviceTransport, SubmitArgs};
use crate::out::{self, Exit};

pub(super) fn submit(remote: &RemoteArgs, args: &SubmitArgs) -> Done<Exit> {
    if args.token == "-" && args.secret.as_deref() == Some("-") {
        return Err(Stop::usage("token and secret cannot both come from standard input", "give one of them as @FILE"));
    }
    let token = hidden(&args.token, "token")?;
    let shown = args.secret.as_deref().map(|given| hidden(given, "secret")).transpose()?.unwrap_or_default();
    let transport = transport(args.transport);
    let to = addresses(args.to.as_deref());
    let message = body::claim(&shown, args.lifetime, Encoding::Json);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Stop::new(Exit::Unavailable, format!("cannot start: {error}"), "raise the limit of threads")
    })?;
    let answer = runtime.block_on(async {
        let mut device = Device::connect(transport, &to, &token).await?;
        let answer = device.submit(&message, Manner::default()).await;
        device.close().await;
        Ok::<_, Trouble>(answer)
    });
    let (exit, reason) = match answer {
        Ok(answer) => outcome(answer),
        Err(Trouble::Refused { .. }) => (Exit::Forbidden, "unauthenticated".to_owned()),
        Err(trouble) => {
            let next = "is it running, and is --to its address?";
            return Err(Stop::new(Exit::Unavailable, trouble.to_string(), next));
        }
    };
    let result = if exit == Exit::Done { "pending" } else { "refused" };
    let line = json!({"device": args.device, "result": result, "reason": reason, "transport": transport.name()});
    Shown::one(remote, &["device", "result", "reason", "transport"]).show(&line);
    if exit != Exit::Done {
        out::talk(format!("refused  {}: {}", args.device, said(&reason)));
    }
    Ok(exit)
}

/// Never from the command line as such: it would stay in the shell's history.
fn hidden(given: &str, what: &str) -> Done<String> {
    if given != "-" && !given.starts_with('@') {
        return Err(Stop::usage(format!("a {what} is no argument"), "give @FILE, or - for standard input"));
    }
    secret(given, what)
}

fn transport(asked: DeviceTransport) -> Transport {
    match asked {
        DeviceTransport::Mqtt => Transport::Mqtt,
        DeviceTransport::Mqtt5 => Transport::Mqtt5,
        DeviceTransport::Ws => Transport::Ws,
        DeviceTransport::Coap => Transport::Coap,
        DeviceTransport::Http => Transport::Http,
    }
}

/// Only the transport's own is used, so all may be the one that was given.
fn addresses(to: Option<&str>) -> Addresses {
    let address = |usual: &str| to.unwrap_or(usual).to_owned();
    Addresses {
        mqtt: address("127.0.0.1:1883"),
        ws: address("127.0.0.1:8083").trim_end_matches("/mqtt").to_owned(),
        coap: address("127.0.0.1:5683"),
        http: address("127.0.0.1:8080"),
    }
}

fn outcome(answer: Answer) -> (Exit, String) {
    let reason = match answer {
        Answer::Acked => return (Exit::Done, "acknowledged".to_owned()),
        Answer::Refused(reason) => reason,
        Answer::Lost | Answer::Dropped => "no_answer".to_owned(),
    };
    let exit = match reason.as_str() {
        "unauthenticated" => Exit::Forbidden,
        "already_owned" => Exit::Conflict,
        "rate_limited" => Exit::RateLimited,
        "quota_exceeded" | "unavailable" | "no_answer" => Exit::Unavailable,
        _ => Exit::Refused,
    };
    (exit, reason)
}

fn said(reason: &str) -> &str {
    match reason {
        "unauthenticated" => "the server does not know this token",
        "not_claimable" => "its maker does not let it be claimed, or it has an owner",
        "already_owned" => "it has an owner",
        "malformed" => "the server cannot read the message",
        "rate_limited" => "too many messages; wait a minute",
        "quota_exceeded" => "no more claims fit now; try again later",
        "unavailable" | "no_answer" => "no answer; try again in a moment",
        "closed" => "the server closed the connection, as MQTT 3.1.1 refuses; --transport mqtt5 is told why",
        other => other,
    }
}
