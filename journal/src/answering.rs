//! Callers are told inside of the runtime in which they wait. From a thread outside each of them would cost a call to the
//! system, to wake a worker that will be awake by the next one anyway; so the thread hands all callers of an entry over at once.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::record::{Answer, Applied, Caller};
use crate::timings::Road;

/// So many callers are told from where one is: handing them over would take as long.
const FEW: usize = 2;

/// Tells callers what became of their commands. There are never more of them under way than the door lets in.
#[derive(Clone)]
pub struct Answering {
    runtime: Handle,
}

impl Answering {
    /// In the runtime that this is called in.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    pub fn here() -> Answering {
        Answering { runtime: Handle::current() }
    }

    /// Tells the callers of an entry's commands; a caller that is gone needs no answer.
    pub fn tell(&self, applied: &Arc<Applied>, callers: Vec<(usize, Caller)>, road: Option<Road>) {
        let applied = applied.clone();
        let are_few = callers.len() <= FEW;
        let tell = move || {
            for (index, caller) in callers {
                let _ = caller.send(Answer { applied: applied.clone(), index, road });
            }
        };
        if are_few {
            tell();
        } else {
            self.runtime.spawn(async move { tell() });
        }
    }
}
