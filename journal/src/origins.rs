//! Who laid which entry into the log, so that none is applied twice.
//!
//! A node numbers its entries 1, 2, 3 ... since its start, and sends one again when it does not know whether the leader
//! that it sent it to had it: after a broken connection, after an election. The log may then hold it twice, or hold a
//! later one whose predecessor was lost with a leader. An entry counts only if it is its node's next: what is not is
//! void, on every node alike.
//!
//! A gateway (observer.rs) lays in entries too, under a number of its own choosing from [`GATEWAYS_FROM`] on and, as its start,
//! about the log index at which it began. Gateways come and go, so only the [`GATEWAYS_MAX`] that began last are known, and that
//! is all that need be: one that is not known has its first entry admitted where it began later than some that are. Those that
//! made room began before all that are left, so nothing of theirs counts ever again, however late it comes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::Origin;

/// What the numbers of gateways begin with; nodes have lower ones.
pub(crate) const GATEWAYS_FROM: u64 = 1 << 63;
/// Gateways that are known at once. One that had to make room begins anew, under a later start.
pub(crate) const GATEWAYS_MAX: usize = if cfg!(test) { 8 } else { 1_024 };

/// Whether this is the number of a gateway.
pub(crate) fn is_gateway(node: u64) -> bool {
    node >= GATEWAYS_FROM
}

/// The last entry of each node that counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origins {
    last: BTreeMap<u64, Last>,
    /// Whether it goes back to the beginning of the log. Snapshots of data format 3 did not hold it: of a node that is not
    /// known then, any entry may be the next.
    is_partial: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    boot: u64,
    ticket: u64,
}

impl Origins {
    /// Those of a snapshot that does not say.
    pub(crate) fn unknown() -> Origins {
        Origins { last: BTreeMap::new(), is_partial: true }
    }

    /// Whether this is its node's next entry; it is the last one then.
    pub(crate) fn admits(&mut self, origin: &Origin) -> bool {
        let is_next = self.standing(origin) == Standing::Next;
        if is_next {
            if is_gateway(origin.node) && !self.last.contains_key(&origin.node) {
                self.make_room();
            }
            self.last.insert(origin.node, Last { boot: origin.boot, ticket: origin.ticket });
        }
        is_next
    }

    /// What `origin` is to those admitted.
    pub(crate) fn standing(&self, origin: &Origin) -> Standing {
        #[cfg(test)]
        if crate::simulation::has_bug(crate::simulation::Bug::NoTickets) {
            return Standing::Next;
        }
        let is_next = match self.last.get(&origin.node) {
            Some(last) if (origin.boot, origin.ticket) <= (last.boot, last.ticket) => return Standing::Known,
            Some(last) if origin.boot == last.boot => last.ticket.checked_add(1) == Some(origin.ticket),
            Some(_) => origin.ticket == 1,
            None if is_gateway(origin.node) => origin.ticket == 1 && !self.is_too_early(origin.node, origin.boot),
            None => origin.ticket == 1 || self.is_partial,
        };
        if is_next { Standing::Next } else { Standing::Ahead }
    }

    /// Whether no further entry of this start of a gateway will ever count: it had to make room, or a later start of it came.
    pub(crate) fn is_gone(&self, node: u64, boot: u64) -> bool {
        match self.last.get(&node) {
            Some(last) => last.boot > boot,
            None => self.is_too_early(node, boot),
        }
    }

    fn gateways(&self) -> impl Iterator<Item = (u64, u64)> {
        self.last.range(GATEWAYS_FROM..).map(|(node, last)| (last.boot, *node))
    }

    fn is_too_early(&self, node: u64, boot: u64) -> bool {
        self.gateways().count() >= GATEWAYS_MAX && self.gateways().min().is_some_and(|first| (boot, node) < first)
    }

    /// Forgets the gateway that began first, where there are as many as may be.
    fn make_room(&mut self) {
        if self.gateways().count() >= GATEWAYS_MAX
            && let Some((_, node)) = self.gateways().min()
        {
            self.last.remove(&node);
        }
    }

    /// The last start of `node` that laid an entry into the log; zero if there was none.
    pub(crate) fn last_boot(&self, node: u64) -> u64 {
        self.last.get(&node).map_or(0, |last| last.boot)
    }

    /// The last of its entries since that start.
    pub(crate) fn last_ticket(&self, node: u64) -> u64 {
        self.last.get(&node).map_or(0, |last| last.ticket)
    }
}

/// What an entry is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its node's next.
    Next,
    /// It was admitted, or came too late to be.
    Known,
    /// One before it is missing.
    Ahead,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(node: u64, boot: u64, ticket: u64) -> Origin {
        Origin { node, boot, ticket }
    }

    #[test]
    fn what_is_sent_again_counts_once() {
        let mut origins = Origins::default();
        let sent = [(1, 1), (1, 2), (1, 2), (1, 1), (1, 3)];
        let counted: Vec<bool> = sent.iter().map(|(boot, ticket)| origins.admits(&origin(7, *boot, *ticket))).collect();
        assert_eq!(counted, [true, true, false, false, true]);
    }

    #[test]
    fn what_comes_after_a_hole_is_void_until_the_hole_is_filled() {
        let mut origins = Origins::default();
        assert!(origins.admits(&origin(7, 1, 1)));
        assert!(!origins.admits(&origin(7, 1, 3)));
        assert!(origins.admits(&origin(7, 1, 2)));
        assert!(origins.admits(&origin(7, 1, 3)));
        assert!(!origins.admits(&origin(8, 1, 2)), "each node counts for itself, from one");
    }

    #[test]
    fn a_new_start_counts_from_one_and_ends_the_one_before() {
        let mut origins = Origins::default();
        assert!(origins.admits(&origin(7, 4, 1)));
        assert!(!origins.admits(&origin(7, 5, 2)));
        assert!(origins.admits(&origin(7, 5, 1)));
        assert!(!origins.admits(&origin(7, 4, 2)), "an entry of a past life came late");
        assert_eq!((origins.last_boot(7), origins.last_boot(8)), (5, 0));
    }

    #[test]
    fn gateways_that_come_and_go_are_forgotten_and_none_of_them_counts_twice() {
        let mut origins = Origins::default();
        assert!(origins.admits(&origin(7, 3, 1)), "a node");
        let gateway = |number: u64| GATEWAYS_FROM + number.wrapping_mul(0x9e37_79b9_7f4a_7c15) / 2;
        let count = 3 * GATEWAYS_MAX as u64;
        for number in 1..=count {
            // Several begin at the same place of the log.
            let boot = number / 3 + 1;
            let first = origin(gateway(number), boot, 1);
            assert_eq!(origins.standing(&origin(gateway(number), boot, 2)), Standing::Ahead);
            if origins.admits(&first) {
                assert!(!origins.admits(&first) && origins.admits(&origin(gateway(number), boot, 2)));
            }
            assert!(origins.last.len() <= GATEWAYS_MAX + 1);
        }
        let mut known = 0;
        for number in 1..=count {
            let boot = number / 3 + 1;
            known += u32::from(!origins.is_gone(gateway(number), boot));
            for ticket in [1, 2] {
                assert!(
                    !origins.admits(&origin(gateway(number), boot, ticket)),
                    "entry {ticket} of {number} came late"
                );
            }
        }
        assert_eq!(known as usize, GATEWAYS_MAX);
        assert_eq!(origins.last_boot(7), 3, "nodes stay");
        let begun_anew = origin(gateway(1), count, 1);
        assert!(origins.is_gone(gateway(1), 1) && origins.admits(&begun_anew) && !origins.is_gone(gateway(1), count));
    }

    #[test]
    fn a_gateway_that_begins_anew_ends_its_own_past() {
        let mut origins = Origins::default();
        let gateway = GATEWAYS_FROM + 5;
        assert!(origins.admits(&origin(gateway, 10, 1)) && !origins.is_gone(gateway, 10));
        assert!(origins.admits(&origin(gateway, 12, 1)) && origins.is_gone(gateway, 10));
        assert!(!origins.admits(&origin(gateway, 10, 2)));
    }

    #[test]
    fn after_a_snapshot_that_does_not_say_any_first_entry_counts() {
        let mut origins = Origins::unknown();
        assert!(origins.admits(&origin(1, 9, 40)));
        assert!(!origins.admits(&origin(1, 9, 40)));
        assert!(origins.admits(&origin(1, 9, 41)));
        assert!(origins.admits(&origin(2, 3, u64::MAX)), "whatever a peer sends");
        assert!(!origins.admits(&origin(2, 3, u64::MAX)));
        assert_eq!(origins.standing(&origin(2, 3, 0)), Standing::Known);
    }
}
