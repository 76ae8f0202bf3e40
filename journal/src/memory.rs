//! What the allocator does with memory that is freed.
#![allow(
    unsafe_code,
    reason = "the C library has no other call for it; measured: a start goes through a fifth more commands"
)]

/// Freed memory that is kept for the next who asks, per arena; an arena's heaps have 64 MiB at the most.
#[cfg(target_env = "gnu")]
const KEPT: i32 = 128 << 20;
/// What is larger goes back to the system at once: state that was loaded, snapshots.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 32 << 20;
/// What is asked of the system at a time.
#[cfg(target_env = "gnu")]
const PORTION: i32 = 8 << 20;

/// Keeps what is freed. Otherwise what an entry of a thousand commands took, hundreds of KiB, goes back to the system and is
/// asked for anew, page by page, for the next. For a process that serves, at its start; does nothing where the allocator is
/// not the GNU C library's.
pub fn keep_freed() {
    #[cfg(target_env = "gnu")]
    for (setting, value) in
        [(libc::M_TRIM_THRESHOLD, KEPT), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TOP_PAD, PORTION)]
    {
        // SAFETY: it takes two numbers and sets one of the allocator's own, under the allocator's own lock.
        unsafe { libc::mallopt(setting, value) };
    }
}
