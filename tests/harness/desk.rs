//! People at a command line, each signed in with a profile of their own.

use std::process::{Command, Output};

use serde_json::Value;

use super::server::{ADMIN, ADMIN_PASSWORD, Server};
use super::tools::{run, said};
use super::world::World;

/// A maker and an owner, each signed in in a folder of their own.
pub struct Desk {
    pub server: Server,
    pub folder: tempfile::TempDir,
}

impl Desk {
    pub fn new() -> (Self, World) {
        Self::with(&[])
    }

    /// At a server with these settings.
    pub fn with(settings: &[(&str, &str)]) -> (Self, World) {
        let server = Server::with(settings);
        let world = World::new(&server);
        let desk = Self { server, folder: tempfile::tempdir().expect("a folder") };
        for (profile, name, password) in
            [("maker", ADMIN, ADMIN_PASSWORD), ("alice", &world.alice.email, &world.alice.password)]
        {
            let url = format!("http://{}", desk.server.http);
            let output =
                run(desk.command(profile, &["login", "--url", &url, "--name", name, "--password", "-"]), password);
            assert!(output.status.success(), "{}", said(&output));
        }
        (desk, world)
    }

    /// A file in the desk's folder, which is where commands run.
    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Writes such a file.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).expect("written");
    }

    pub fn command(&self, profile: &str, arguments: &[&str]) -> &'static mut Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claimd"));
        command.env_clear().env("XDG_CONFIG_HOME", self.folder.path()).current_dir(self.folder.path());
        // After a restart the server is elsewhere.
        command.env("CLAIMD_CLIENT__URL", format!("http://{}", self.server.http));
        command.args(arguments).args(["--profile", profile]);
        Box::leak(Box::new(command))
    }

    pub fn say(&self, profile: &str, arguments: &[&str], input: &str) -> Output {
        run(self.command(profile, arguments), input)
    }

    /// The one JSON line that a command prints.
    pub fn ok(&self, profile: &str, arguments: &[&str]) -> Value {
        let output = self.say(profile, arguments, "");
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        serde_json::from_str(text.trim()).unwrap_or(Value::String(text))
    }

    pub fn exit(&self, profile: &str, arguments: &[&str]) -> (i32, String) {
        let output = self.say(profile, arguments, "");
        (output.status.code().expect("an exit code"), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
