//! Which snapshots are kept, and how much of the log behind them.
//!
//! The newest three snapshots stay: one to start from, two to fall back on. Behind them the log stays for as many bytes as
//! the operator wants to look back on, and with it the snapshot that it starts after (the base) and one every quarter of
//! that (milestones), so that any moment in it is reached from a state not far before.

/// How many of the newest are kept whatever the log holds.
const NEWEST_KEPT: usize = 3;
/// Milestones to one retention.
const MILESTONES: u64 = 4;

/// What stays and what goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The snapshots that go, by the index of their last log entry.
    pub dropped: Vec<u64>,
    /// The log up to this entry, itself included, is not needed.
    pub purge_upto: Option<u64>,
}

/// `snapshots` ascend; `log_bytes_after` says about how many bytes of log follow an entry.
pub(crate) fn plan(snapshots: &[u64], log_bytes_after: impl Fn(u64) -> u64, log_bytes_kept: u64) -> Plan {
    let Some(old) = snapshots.len().checked_sub(NEWEST_KEPT).map(|newer| &snapshots[..=newer]) else {
        return Plan::default();
    };
    // The base: the newest with enough of the log behind it. Without one the log is kept from where it starts.
    let base = old.iter().rposition(|index| log_bytes_after(*index) >= log_bytes_kept);
    let mut dropped = old[..base.unwrap_or(0)].to_vec();
    let mut kept_at = base.map(|base| log_bytes_after(old[base]));
    // The last of the old is one of the newest three.
    for index in old[..old.len() - 1].iter().skip(base.map_or(0, |base| base + 1)) {
        let after = log_bytes_after(*index);
        if kept_at.is_some_and(|kept| kept.saturating_sub(after) < log_bytes_kept / MILESTONES) {
            dropped.push(*index);
        } else {
            kept_at = Some(after);
        }
    }
    Plan { dropped, purge_upto: base.map(|base| old[base]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of 100 bytes an entry that ends at 1,000.
    fn bytes_after(index: u64) -> u64 {
        (1_000 - index) * 100
    }

    #[test]
    fn three_snapshots_are_kept_whatever_else_is_asked() {
        for count in 0..4 {
            let snapshots: Vec<u64> = (0..count).map(|number| 970 + 10 * number).collect();
            assert_eq!(plan(&snapshots, bytes_after, u64::MAX), Plan::default());
        }
        let base = Plan { dropped: vec![], purge_upto: Some(970) };
        assert_eq!(plan(&[970, 980, 990], bytes_after, 0), base);
    }

    #[test]
    fn without_a_retention_the_log_starts_after_the_third_newest() {
        let found = plan(&[950, 960, 970, 980, 990], bytes_after, 0);
        assert_eq!(found, Plan { dropped: vec![950, 960], purge_upto: Some(970) });
    }

    #[test]
    fn the_log_starts_after_the_newest_snapshot_with_enough_of_it_behind() {
        let snapshots: Vec<u64> = (0..100).map(|number| number * 10).collect();
        let found = plan(&snapshots, bytes_after, 40_000);
        assert_eq!(found.purge_upto, Some(600), "400 entries of 100 bytes stay");
        let kept: Vec<u64> = snapshots.iter().copied().filter(|index| !found.dropped.contains(index)).collect();
        assert_eq!(kept, [600, 700, 800, 900, 970, 980, 990], "the base, milestones every 10,000 bytes, the newest");
    }

    #[test]
    fn milestones_stay_the_same_as_the_log_grows() {
        let mut kept = Vec::new();
        for newest in 1..100u64 {
            kept.push(newest * 10);
            let after = |index: u64| (newest * 10 - index) * 100;
            let found = plan(&kept, after, 40_000);
            kept.retain(|index| !found.dropped.contains(index));
            assert!(kept.len() <= 9, "{kept:?}");
            let gaps = kept.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(gaps.max().is_none_or(|gap| gap <= 200), "{kept:?}");
        }
    }

    #[test]
    fn a_log_shorter_than_its_retention_is_kept_whole() {
        let snapshots: Vec<u64> = (0..100).map(|number| number * 10).collect();
        let found = plan(&snapshots, bytes_after, 1_000_000);
        assert_eq!(found.purge_upto, None);
        assert!(!found.dropped.contains(&0), "the first is a milestone");
    }
}
