//! CPU time of threads, for benches whose client shares the machine with what they measure.

use std::time::Duration;

/// What the threads of this process have used whose name begins so.
pub(crate) fn of_threads(name: &str) -> Duration {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("Linux has it") {
        let path = task.expect("a thread").path();
        let found = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        if found.starts_with(name) {
            let stat = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            nanos += stat.split(' ').next().and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(nanos)
}
