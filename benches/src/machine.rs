//! What the machine says of this process: CPU time and memory.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time of this thread so far: what others do on the machine does not count.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The CPU time of all threads of this process so far.
pub fn process_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The memory of this process that is in RAM, in bytes.
pub fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages: u64 = pages.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("the second is resident");
    pages * rustix::param::page_size() as u64
}

/// Runs this program anew with these arguments and gives the numbers it prints: what one case does to the memory does not
/// touch the next.
pub fn apart(arguments: &[&str]) -> Vec<u64> {
    let program = std::env::current_exe().expect("a program has a file");
    // Large blocks always go back to the system at once, so that what is measured is not hidden in what was used before.
    let output = std::process::Command::new(program)
        .args(arguments)
        .env("MALLOC_MMAP_THRESHOLD_", "131072")
        .output()
        .expect("it ran a moment ago");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    let text = String::from_utf8(output.stdout).expect("numbers are text");
    text.split_whitespace().map(|number| number.parse().expect("a number")).collect()
}
