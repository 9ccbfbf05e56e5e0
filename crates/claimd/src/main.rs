//! claimd: the binary. `cli` says what may be asked for, `config` reads the settings, `build` puts the parts together, `serve`
//! runs them, `commands` holds everything else.
#![forbid(unsafe_code)]

mod admin;
mod build;
mod claims;
mod cli;
mod commands;
mod config;
mod doctor;
mod events;
mod health;
mod keys;
mod metrics;
mod out;
mod progress;
mod remote;
mod rotation;
mod sealer;
mod serve;
mod skew;
mod snippet;
mod steps;
mod supervisor;
mod timed;
mod vitals;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, ConfigCommand};

/// A claim's future is larger than what the system's allocator keeps at hand.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::CheckConfig(args) => commands::config::check(&args),
        Command::Config(ConfigCommand::Print { config, redacted, origin }) => {
            commands::config::print(&config, redacted, origin)
        }
        Command::Health(args) => health::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Backup(args) => commands::moving::back_up(&args),
        Command::Restore(args) => commands::moving::restore(&args),
        Command::Migrate(command) => commands::moving::migrate(&command),
        Command::Demo(args) => commands::demo::run(&args),
        Command::Simulate(command) => commands::simulate::run(&command),
        Command::Load(args) => commands::simulate::load(&args),
        Command::Login(args) => remote::login(&args),
        Command::Logout(args) => remote::logout(&args.remote),
        Command::Whoami(args) => remote::who_am_i(&args.remote),
        Command::Application(command) => remote::application(&command),
        Command::Device(command) => remote::device(&command),
        Command::Customer(command) => remote::customer(&command),
        Command::Tenant(command) => remote::tenant(&command),
        Command::Account(command) => remote::account(&command),
        Command::Gateway(command) => remote::gateway(&command),
        Command::Role(command) => remote::role(&command),
        Command::Group(command) => remote::group(&command),
        Command::Audit(command) => remote::audit(&command),
        Command::Claim(command) => remote::claim(&command),
        Command::Import(args) => remote::import(&args),
        Command::Export(args) => remote::export(&args),
        Command::Keys(command) => remote::keys(&command),
        Command::Watch(args) => remote::watch(&args),
        Command::Snippet(args) => snippet::run(&args),
        Command::Qr(args) => remote::qr(&args),
        Command::Version { output } => commands::papers::version(output),
        Command::Completions { shell } => commands::papers::completions(shell),
        Command::Man { out } => commands::papers::man(&out),
    };
    exit.into()
}
