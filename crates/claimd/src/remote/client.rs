//! Requests to a running server, and what their refusals mean for the exit code.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::Duration;

use serde_json::Value;
use ureq::Body;
use ureq::http::request::Builder;
use ureq::http::{Method, Request, Response};

use super::{Done, Stop, profile};
use crate::cli::remote::RemoteArgs;
use crate::out::Exit;

/// Names of refusals that are about a secret: wrong, or none that can be.
const SECRETS: [&str; 5] =
    ["authentication_code", "no_claim_authentication_code", "checksum_mismatch", "unknown_format", "qr_code_data"];

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody at a server.
pub(super) struct Client {
    agent: ureq::Agent,
    url: String,
    key: Option<String>,
}

/// An answer that is no refusal, or one that the command wants to read itself.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) reason: Option<String>,
    /// Tries that are left after a wrong secret.
    pub(super) tries: Option<u32>,
    wait: Option<String>,
    /// A 400 of ThingsBoard's routes that is a 409 elsewhere.
    conflict: bool,
}

impl Client {
    /// The server and key of the environment, else of the profile.
    pub(super) fn of(remote: &RemoteArgs) -> Done<Self> {
        let (url, key) = profile::server(&remote.profile)?;
        Self::at(&url, Some(key))
    }

    pub(super) fn at(url: &str, key: Option<String>) -> Done<Self> {
        let url = url.trim_end_matches('/').to_owned();
        if !url.starts_with("http://") {
            let next = "write http://HOST:PORT; https is later work, put nothing between you and the server that others can read";
            return Err(Stop::usage(format!("`{url}` is no address of a server"), next));
        }
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build();
        Ok(Self { agent: config.new_agent(), url, key })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn get(&self, path: &str) -> Done<Value> {
        self.ask(Method::GET, path, None)
    }

    /// The answer, or the refusal as the end of the command.
    pub(super) fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Done<Value> {
        let answer = self.send(method, path, body)?;
        if answer.status < 400 { Ok(answer.body) } else { Err(answer.refusal()) }
    }

    pub(super) fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Done<Answer> {
        let text = body.map(Value::to_string).unwrap_or_default();
        self.run(&self.agent, self.request(method, path).header("Content-Type", "application/json"), text)
    }

    fn request(&self, method: Method, path: &str) -> Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.header("Authorization", format!("Bearer {key}")),
            None => request,
        }
    }

    fn run(&self, agent: &ureq::Agent, request: Builder, body: impl ureq::AsSendBody) -> Done<Answer> {
        let request = request.body(body).map_err(|_| unwritable())?;
        self.read(agent.run(request).map_err(|error| self.unreachable(&error))?)
    }

    fn unreachable(&self, error: &ureq::Error) -> Stop {
        let next = format!("is it running, and is {} its address? see `claimd login --url`", self.url);
        Stop::new(Exit::Unavailable, format!("{} does not answer: {error}", self.url), next)
    }

    /// The body of an answer that comes bit by bit and has no end; a silence of `patience` ends it with an error.
    pub(super) fn open(&self, path: &str, patience: Duration) -> Done<Result<impl BufRead + use<>, Answer>> {
        let request = self.request(Method::GET, path).body(()).map_err(|_| unwritable())?;
        let request = self.agent.configure_request(request);
        let request =
            request.timeout_global(None).timeout_connect(Some(PATIENCE)).timeout_recv_response(Some(PATIENCE));
        let request = request.timeout_per_read(Some(patience)).build();
        let response = self.agent.run(request).map_err(|error| self.unreachable(&error))?;
        if response.status().as_u16() >= 400 {
            return self.read(response).map(Err);
        }
        Ok(Ok(BufReader::new(response.into_body().into_reader())))
    }

    fn read(&self, mut response: Response<Body>) -> Done<Answer> {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (reason, wait) = (header("claim-reason"), header("retry-after"));
        let conflict = header("claimd-conflict").is_some();
        let tries = header("claim-tries-left").and_then(|tries| tries.parse().ok());
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|error| self.unreachable(&error))?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, body, reason, tries, wait, conflict })
    }

    /// Sends a file, as long as that takes.
    pub(super) fn upload(&self, path: &str, mut file: impl Read) -> Done<Value> {
        let body = ureq::SendBody::from_reader(&mut file);
        let answer = self.run(&self.patient(), self.request(Method::POST, path), body)?;
        if answer.status < 400 { Ok(answer.body) } else { Err(answer.refusal()) }
    }

    /// Writes an answer where it belongs, whatever its length.
    pub(super) fn download(&self, path: &str, to: &mut impl Write) -> Done {
        let request = self.request(Method::GET, path).body(()).map_err(|_| unwritable())?;
        let mut response = self.patient().run(request).map_err(|error| self.unreachable(&error))?;
        if response.status().as_u16() >= 400 {
            return Err(self.read(response)?.refusal());
        }
        let copied = io::copy(&mut response.body_mut().as_reader(), to);
        copied.map(drop).map_err(|error| {
            Stop::new(Exit::Unavailable, format!("the answer broke off: {error}"), "run the command again")
        })
    }

    /// Without a bound on the whole: a file may be as long as it is.
    fn patient(&self) -> ureq::Agent {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_connect(Some(PATIENCE)).build();
        config.new_agent()
    }

    /// Every row of a list.
    pub(super) fn all(&self, path: &str) -> Done<Vec<Value>> {
        self.all_like(path, "")
    }

    /// Every row of a list whose name has this text.
    pub(super) fn all_like(&self, path: &str, text: &str) -> Done<Vec<Value>> {
        let (mut rows, mut page) = (Vec::new(), 0);
        let text = segment(text);
        loop {
            let answer = self.get(&format!("{path}?pageSize=1000&page={page}&textSearch={text}"))?;
            rows.extend(answer["data"].as_array().cloned().unwrap_or_default());
            if answer["hasNext"] != true {
                return Ok(rows);
            }
            page += 1;
        }
    }
}

impl Client {
    /// The row of the list at `path` whose `member` is `name`; `what` it is and where to look are for the message.
    pub(super) fn named(&self, path: &str, member: &str, name: &str, what: &str, next: &str) -> Done<Value> {
        let found = self.all_like(path, name)?.into_iter().find(|row| row[member] == name);
        found.ok_or_else(|| Stop::new(Exit::NotFound, format!("there is no {what} `{name}`"), next))
    }
}

impl Answer {
    /// How long the server asks to wait.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.wait.as_deref()?.parse().map(Duration::from_secs).ok()
    }

    /// What the server said, and what that means for whoever typed the command.
    pub(super) fn refusal(&self) -> Stop {
        let said = self.said();
        match self.status {
            400 if self.name() == "device_access_denied" => Stop::new(
                Exit::Refused,
                "the code or the device does not match, or the device is not open",
                "check both; press the device's button (the server does not say which, so that nobody can search for devices)",
            ),
            401 => Stop::new(Exit::Forbidden, said, "sign in: `claimd login`"),
            403 => Stop::new(Exit::Forbidden, said, "another account may do this; see `claimd whoami`"),
            404 => Stop::new(Exit::NotFound, said, "look for it with `list`"),
            409 => Stop::new(Exit::Conflict, said, ""),
            400 if self.conflict => Stop::new(Exit::Conflict, said, ""),
            429 => {
                let wait = self.wait.as_deref().unwrap_or("some");
                Stop::new(Exit::RateLimited, said, format!("wait {wait} seconds"))
            }
            500.. => Stop::new(Exit::Unavailable, said, "try again in a moment"),
            // What cannot be used as a secret is refused; any other request that cannot be was typed wrong.
            400 if SECRETS.contains(&self.name()) || said.starts_with("`claim_authentication_code`") => {
                Stop::new(Exit::Refused, said, "")
            }
            400 | 413 | 414 | 422 => Stop::usage(said, ""),
            _ => Stop::new(Exit::Refused, said, ""),
        }
    }

    /// The Things Stack's name of a refusal; else nothing.
    pub(super) fn name(&self) -> &str {
        self.body["details"][0]["name"].as_str().unwrap_or_default()
    }

    /// What the server said, without the wrapping of its face.
    pub(super) fn said(&self) -> String {
        let said = ["detail", "message"].iter().find_map(|name| self.body[name].as_str());
        let said = said.or(self.body.as_str()).unwrap_or("the server gave no reason");
        // `error:NAMESPACE:NAME (TEXT)`
        let inner = said.strip_prefix("error:").and_then(|said| said.strip_suffix(')'));
        let inner = inner.and_then(|said| said.split_once(" (")).map(|(_, text)| text);
        match inner.unwrap_or(said) {
            "Requested item wasn't found!" => "there is no such thing, or none of yours".to_owned(),
            "You don't have permission to perform this operation!" => "your account may not do this".to_owned(),
            text => text.to_owned(),
        }
    }
}

fn unwritable() -> Stop {
    Stop::usage("the request cannot be written", "look for unusual characters in what you gave")
}

/// A text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
