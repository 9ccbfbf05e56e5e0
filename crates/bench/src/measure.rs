//! What the kernel says about a process.

use std::fs;

/// CPU time of all its living threads, nanoseconds.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64, String> {
    let folder = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&folder).map_err(|error| format!("{folder}: {error}"))?;
    let spent: Vec<u64> = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse().ok())
        .collect();
    // A figure of zero would be taken for a very good one.
    if spent.is_empty() { Err(format!("{folder}: this kernel keeps no schedstat")) } else { Ok(spent.iter().sum()) }
}

/// What was spent between two readings; an error when a thread with more than that behind it has ended meanwhile.
pub(crate) fn spent_ns(before: u64, after: u64) -> Result<u64, String> {
    after.checked_sub(before).ok_or_else(|| "a thread of the server ended during the round; measure again".to_owned())
}

/// Resident memory, bytes.
pub(crate) fn rss(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// The most of it that there ever was, bytes.
pub(crate) fn peak_rss(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The middle one; of an even number the lower.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Largest by smallest.
pub(crate) fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    most / least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
        assert_eq!(spread(&[2.0, 4.0, 3.0]), 2.0);
    }

    #[test]
    fn the_kernel_tells_of_this_process_and_not_of_one_that_is_not_there() {
        let me = std::process::id();
        assert!(cpu_ns(me).is_ok_and(|spent| spent > 0));
        assert!(rss(me) > 100_000);
        assert!(cpu_ns(u32::MAX).is_err());
        assert_eq!(rss(u32::MAX), 0);
    }

    #[test]
    fn time_that_runs_backwards_is_an_error() {
        assert_eq!(spent_ns(3, 5), Ok(2));
        assert!(spent_ns(5, 3).is_err());
    }
}
