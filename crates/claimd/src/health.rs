//! Asking a server on this machine how it is, over its operators' listener: `claimd health`, for probes of containers and
//! load balancers, and the watchdog's question.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::cli::HealthArgs;
use crate::config;
use crate::out::{self, Exit};
use crate::supervisor::from_here;

/// The answer of `/readyz`.
pub(crate) struct Readiness {
    ready: bool,
    body: Value,
}

impl Readiness {
    /// `ready`, or what stands in the way.
    pub(crate) fn in_words(&self) -> String {
        if self.ready {
            return "ready".to_owned();
        }
        let down = self.body.as_object().into_iter().flatten().filter(|(_, state)| *state == "down");
        let mut why: Vec<String> = down.map(|(part, _)| format!("{} down", part.replace('_', " "))).collect();
        if self.body["draining"] == true {
            why.push("draining".to_owned());
        }
        if why.is_empty() { "not ready".to_owned() } else { format!("not ready: {}", why.join(", ")) }
    }
}

/// Whether the process serves.
pub(crate) fn alive(address: &str, patience: Duration) -> Result<(), String> {
    match ask(address, "/healthz", patience)? {
        (200, _) => Ok(()),
        (status, _) => Err(format!("{address} answers /healthz with {status}")),
    }
}

/// Whether it is to be sent work.
pub(crate) fn readiness(address: &str, patience: Duration) -> Result<Readiness, String> {
    let (status, text) = ask(address, "/readyz", patience)?;
    let body = serde_json::from_str(&text).map_err(|_| format!("{address} answers /readyz with status {status}"))?;
    Ok(Readiness { ready: status == 200, body })
}

fn ask(address: &str, path: &str, patience: Duration) -> Result<(u16, String), String> {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(patience)).build();
    let cannot = |error: ureq::Error| format!("{address} does not answer: {error}");
    let mut answer = config.new_agent().get(format!("http://{address}{path}")).call().map_err(cannot)?;
    let text = answer.body_mut().read_to_string().map_err(cannot)?;
    Ok((answer.status().as_u16(), text))
}

/// `claimd health`: 0 when all is well, 7 when not.
pub(crate) fn run(args: &HealthArgs) -> Exit {
    let address = match &args.admin {
        Some(address) => *address,
        None => match configured(args) {
            Ok(address) => address,
            Err(exit) => return exit,
        },
    };
    let address = from_here(address).to_string();
    let said = match args.ready {
        true => readiness(&address, args.within).map(|ready| (ready.ready, ready.in_words())),
        false => alive(&address, args.within).map(|()| (true, "alive".to_owned())),
    };
    match said {
        Ok((true, words)) => {
            out::data(words);
            Exit::Done
        }
        Ok((false, words)) => {
            out::data(words);
            Exit::Unavailable
        }
        Err(why) => {
            out::error(why, "is it running, and is this its `admin.bind`? see its log");
            Exit::Unavailable
        }
    }
}

fn configured(args: &HealthArgs) -> Result<SocketAddr, Exit> {
    let settings = config::load(args.config.config.as_deref(), std::env::vars(), &[]).map_err(|faults| {
        faults.iter().for_each(|fault| out::talk(fault.to_string()));
        Exit::Usage
    })?;
    settings.settings.admin.bind.parse().map_err(|_| {
        out::error(
            format!("`admin.bind`: \"{}\" is no address and port", settings.settings.admin.bind),
            "write it like 127.0.0.1:9464, or give --admin",
        );
        Exit::Usage
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_ready_is_named() {
        for (ready, body, words) in [
            (true, json!({"registry": "up", "draining": false}), "ready"),
            (false, json!({"registry": "down", "claim_cache": "up"}), "not ready: registry down"),
            (false, json!({"claim_cache": "down", "draining": true}), "not ready: claim cache down, draining"),
            (false, json!({"disk_free_bytes": 3}), "not ready"),
        ] {
            assert_eq!(Readiness { ready, body }.in_words(), words);
        }
    }
}
