//! The one thing the engine asks of the processor that it cannot ask of the language: to fetch a cache line that will be
//! needed soon. A hint; it changes no state and no result.
#![allow(unsafe_code, reason = "a plain load would wait for the line it is to fetch; measured in decision 6")]

/// Begin to fetch what `value` begins with.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program can see and never faults; and a reference is valid anyway.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
