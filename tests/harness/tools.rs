//! Other people's programs: clients from Debian's packages and from a Python environment, all put there by
//! `cargo xtask test`. One that is missing fails the test with a hint; nothing is skipped.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::server::PATIENCE;

const HINT: &str = "run `cargo xtask test`, which installs it";

/// A program from Debian's packages.
pub fn program(name: &str) -> Command {
    let found = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        // Where servers are, for administrators.
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    Command::new(found.unwrap_or_else(|| panic!("`{name}` is not installed; {HINT}")))
}

/// The Python of the tests' own environment.
pub fn python() -> Command {
    let path = root().join("target/venv/bin/python");
    assert!(path.exists(), "the Python environment {} is missing; {HINT}", path.display());
    Command::new(path)
}

/// The top of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// Runs to the end, with `input`; ends it after [`PATIENCE`].
pub fn run(command: &mut Command, input: &str) -> Output {
    run_for(command, input, PATIENCE)
}

pub fn run_for(command: &mut Command, input: &str, patience: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).ok();
    let id = child.id();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let began = Instant::now();
    match receiver.recv_timeout(patience) {
        Ok(output) => output.expect("output"),
        Err(_) => {
            let _ = Command::new("kill").arg("-KILL").arg(id.to_string()).status();
            panic!("{command:?} did not end in {:?}", began.elapsed());
        }
    }
}

/// Standard output and error together, for messages.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Looks for secrets, in any letter case, in every file of a folder.
pub fn no_file_has(folder: &std::path::Path, marks: &[&[u8]]) {
    let mut folders = vec![folder.to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            // What is still to be written in a journal is zeros.
            let bytes = std::fs::read(&path).expect("a file").into_iter().filter(|byte| *byte != 0);
            let bytes: Vec<u8> = bytes.map(|byte| byte.to_ascii_uppercase()).collect();
            for mark in marks {
                let mark = mark.to_ascii_uppercase();
                let found = bytes.windows(mark.len()).any(|window| window == mark);
                assert!(!found, "a secret is in {}", path.display());
            }
        }
    }
    assert!(files > 0, "there is something to look through");
}
