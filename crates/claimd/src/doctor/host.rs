//! What the machine allows: descriptors, room on the disk, buffers of UDP.

use std::path::Path;

use super::Check;
use super::owner::Owner;
use crate::config::Settings;

/// Descriptors beside those of connections: files, stores, sockets.
const OWN_DESCRIPTORS: u64 = 256;
/// With fewer the server is refusing people soon.
const FEW_DESCRIPTORS: u64 = 1024;
const GIB: u64 = 1 << 30;

pub(super) fn checks(settings: &Settings, data_dir: &Path, server: Option<Owner>) -> Vec<Check> {
    let mut checks = vec![descriptors(settings, server), disk(data_dir)];
    if !settings.coap.bind.is_empty() {
        let most = std::fs::read_to_string("/proc/sys/net/core/rmem_max").ok();
        checks.push(buffer(settings.coap.receive_buffer_bytes as u64, most.and_then(|text| text.trim().parse().ok())));
    }
    checks
}

fn descriptors(settings: &Settings, server: Option<Owner>) -> Check {
    let (limit, whose) = match server.and_then(|owner| Some((limit_of(owner.pid)?, owner.pid))) {
        Some((limit, pid)) => (limit, format!("the server that runs (process {pid})")),
        None => (own_limit(), "a server started from here".to_owned()),
    };
    let listeners = [&settings.mqtt.bind, &settings.mqtt.ws_bind, &settings.http.bind];
    let listeners = listeners.into_iter().filter(|bind| !bind.is_empty()).count() as u64;
    let wanted = listeners * settings.limits.connections as u64 + OWN_DESCRIPTORS;
    let found = format!("{whose} may have {limit}; `limits.connections` on {listeners} listeners asks for {wanted}");
    let next = format!("start it with `ulimit -n {wanted}` or LimitNOFILE={wanted}, or lower `limits.connections`");
    match limit {
        _ if limit >= wanted => Check::ok("descriptors", found),
        0..FEW_DESCRIPTORS => Check::fault("descriptors", found, next),
        _ => Check::warn("descriptors", found, next),
    }
}

fn own_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Of another process (proc(5), `/proc/pid/limits`).
fn limit_of(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let soft = text.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

fn disk(data_dir: &Path) -> Check {
    // Of the folder, or of where it will be made.
    let there = data_dir.ancestors().find(|folder| folder.exists()).filter(|folder| !folder.as_os_str().is_empty());
    let there = there.unwrap_or(Path::new("."));
    match rustix::fs::statvfs(there) {
        Ok(disk) => room(there, disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(error) => {
            Check::fault("disk", format!("{} cannot be looked at: {error}", there.display()), "check the path")
        }
    }
}

fn room(folder: &Path, free: u64) -> Check {
    let found = format!("{} MiB free at {}", free >> 20, folder.display());
    let next = "make room, or move `server.data_dir` to a larger disk";
    match free {
        0..=crate::vitals::DISK_LOW => {
            Check::fault("disk", format!("{found}; the server is not ready below 128"), next)
        }
        _ if free < GIB => Check::warn("disk", found, next),
        _ => Check::ok("disk", found),
    }
}

fn buffer(wanted: u64, most: Option<u64>) -> Check {
    let name = "udp buffer";
    match most {
        Some(most) if most < wanted => Check::warn(
            name,
            format!(
                "net.core.rmem_max is {most}, `coap.receive_buffer_bytes` {wanted}: a burst of CoAP may be dropped"
            ),
            format!(
                "sysctl -w net.core.rmem_max={wanted}, and the same in /etc/sysctl.d; `claimd_coap_dropped_total` counts"
            ),
        ),
        Some(most) => Check::ok(name, format!("net.core.rmem_max is {most}")),
        None => Check::ok(name, "net.core.rmem_max is not shown here"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn too_little_room_is_a_fault_and_little_room_a_warning() {
        let state = |free| room(Path::new("/"), free).state;
        assert_eq!(state(crate::vitals::DISK_LOW), State::Fault);
        assert_eq!(state(crate::vitals::DISK_LOW + 1), State::Warn);
        assert_eq!(state(GIB - 1), State::Warn);
        assert_eq!(state(GIB), State::Ok);
    }

    #[test]
    fn a_buffer_that_the_kernel_cuts_is_a_warning() {
        assert_eq!(buffer(4_194_304, Some(212_992)).state, State::Warn);
        assert_eq!(buffer(4_194_304, Some(4_194_304)).state, State::Ok);
        assert_eq!(buffer(4_194_304, None).state, State::Ok);
    }

    #[test]
    fn the_limit_of_another_process_is_read_as_linux_writes_it() {
        assert_eq!(limit_of(std::process::id()), Some(own_limit()));
        assert_eq!(limit_of(u32::MAX), None);
    }
}
