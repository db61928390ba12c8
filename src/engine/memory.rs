//! How much memory this process may have: what it keeps there by its own will must leave room for all
//! else, or the kernel ends it.

use std::fs;
use std::path::Path;

/// Where control groups are, each controller in a folder of its own or all in one.
const GROUPS: &str = "/sys/fs/cgroup";

/// So many bytes of segments in memory as were asked for, or half of all that there may be.
pub fn resident_bytes_that_fit(wanted: u64) -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_in(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = least_of(Path::new(GROUPS), &groups);
    let Some(most) = total.into_iter().chain(group).min() else { return wanted };
    let fits = wanted.min(most / 2);
    if fits < wanted {
        tracing::warn!(
            "resident_bytes lowered from {wanted} to {fits}: there are {most} bytes of memory in all"
        );
    }
    fits
}

/// Bytes of memory of the machine, by `/proc/meminfo`.
fn total_in(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The least that a group allows of those that `/proc/self/cgroup` lists, or of any above it.
fn least_of(root: &Path, groups: &str) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut words = line.splitn(3, ':').skip(1);
        let (controllers, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            "memory" => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return Vec::new(),
        };
        // Within a container the path may be the one outside: then the top is the container's own.
        let above = Path::new(path.trim_start_matches('/')).ancestors();
        let limit = |folder: &Path| fs::read_to_string(root.join(folder).join(file)).ok();
        above.filter_map(limit).filter_map(|text| text.trim().parse().ok()).collect()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scratch::Scratch;

    #[test]
    fn more_than_half_of_the_memory_is_never_kept() {
        assert_eq!(resident_bytes_that_fit(4096), 4096);
        let text = fs::read_to_string("/proc/meminfo").expect("this is Linux");
        let total = total_in(&text).expect("it says so");
        assert!(resident_bytes_that_fit(u64::MAX) <= total / 2);
    }

    #[test]
    fn the_narrowest_group_counts() {
        let scratch = Scratch::new();
        let limit = |path: &str, text: &str| {
            let path = scratch.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("there is room");
            fs::write(path, text).expect("there is room");
        };
        limit("memory.max", "max\n");
        limit("outer/memory.max", "700000\n");
        limit("outer/inner/memory.max", "900000\n");
        limit("memory/memory.limit_in_bytes", "9223372036854771712\n");
        limit("memory/old/memory.limit_in_bytes", "500000\n");
        let least = |groups| least_of(scratch.path(), groups);
        assert_eq!(least("0::/outer/inner\n"), Some(700_000));
        assert_eq!(least("4:memory:/old\n3:cpuset:/old\n0::/outer\n"), Some(500_000));
        assert_eq!(least("4:memory:/not/there\n"), Some(9_223_372_036_854_771_712));
        assert_eq!(least("0::/\n"), None);
        assert_eq!(least(""), None);
    }
}
