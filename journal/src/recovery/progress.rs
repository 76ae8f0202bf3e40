//! How far a long job is, for whoever shows it.

/// Told how far a job is. It is called often and from the thread that works, so it must cost nothing.
pub trait Progress {
    /// A part of the job begins: what it does, and how many steps it has, as far as is known.
    fn begin(&mut self, what: &str, steps: u64);
    /// So many of its steps are done.
    fn reach(&mut self, done: u64);
}

/// Nobody looks.
impl Progress for () {
    fn begin(&mut self, _what: &str, _steps: u64) {}
    fn reach(&mut self, _done: u64) {}
}
