//! Which of several nodes is asked.

/// How reads are spread over nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// By lot.
    Random,
    /// One after the other.
    #[default]
    RoundRobin,
    /// By lot, each as often as its weight says.
    Weighted,
    /// The one with the fewest reads under way; among equals, one after the other.
    LeastActive,
    /// Whatever is asked about one account goes to one node, and to another only while that one is away.
    UidHash,
}

/// A node that may be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub node: u64,
    pub weight: u32,
    pub active: usize,
}

/// What a choice takes besides: the number of the turn, a number by lot, and what the question is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub turn: u64,
    pub lot: u64,
    pub affinity: u64,
}

impl Balance {
    /// The place of one of them; none where there are none.
    pub(crate) fn choose(self, candidates: &[Candidate], ask: Ask) -> Option<usize> {
        let count = candidates.len() as u64;
        if count == 0 {
            return None;
        }
        let next = (ask.turn % count) as usize;
        Some(match self {
            Balance::Random => (ask.lot % count) as usize,
            Balance::RoundRobin => next,
            Balance::Weighted => {
                let total: u64 = candidates.iter().map(|candidate| u64::from(candidate.weight)).sum();
                if total == 0 {
                    return Some(next);
                }
                let mut left = ask.lot % total;
                let reached = |candidate: &Candidate| {
                    let weight = u64::from(candidate.weight);
                    let is_it = left < weight;
                    left = left.saturating_sub(weight);
                    is_it
                };
                candidates.iter().position(reached).unwrap_or(next)
            }
            Balance::LeastActive => {
                let places = (0..candidates.len()).map(|at| (at + next) % candidates.len());
                places.min_by_key(|at| candidates[*at].active).unwrap_or(next)
            }
            // The highest of a hash of both: who leaves takes only its own along.
            Balance::UidHash => {
                let place = |at: &usize| mixed(ask.affinity ^ mixed(candidates[*at].node));
                (0..candidates.len()).max_by_key(place).unwrap_or(next)
            }
        })
    }
}

/// A number whose every bit depends on every bit of `value`.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(node: u64, weight: u32, active: usize) -> Candidate {
        Candidate { node, weight, active }
    }

    /// How often each of them is chosen in so many turns.
    fn counts(balance: Balance, candidates: &[Candidate], turns: u64) -> Vec<usize> {
        let mut counts = vec![0; candidates.len()];
        for turn in 0..turns {
            counts[balance.choose(candidates, Ask { turn, lot: mixed(turn), affinity: turn }).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn each_way_of_spreading_does_what_it_says() {
        let nodes = [of(1, 1, 5), of(2, 3, 0), of(3, 0, 9)];
        assert_eq!(counts(Balance::RoundRobin, &nodes, 300), [100, 100, 100]);
        assert_eq!(counts(Balance::LeastActive, &nodes, 300), [0, 300, 0]);
        let weighted = counts(Balance::Weighted, &nodes, 4_000);
        assert!((900..1_100).contains(&weighted[0]) && weighted[2] == 0, "{weighted:?}");
        for balance in [Balance::Random, Balance::UidHash] {
            let spread = counts(balance, &nodes, 3_000);
            assert!(spread.iter().all(|count| (850..1_150).contains(count)), "{balance:?}: {spread:?}");
        }
        assert_eq!(Balance::Random.choose(&[], Ask { turn: 0, lot: 0, affinity: 0 }), None);
    }

    #[test]
    fn an_account_stays_with_its_node_while_another_one_is_away() {
        let all = [of(1, 1, 0), of(2, 1, 0), of(3, 1, 0)];
        for affinity in 0..200 {
            let node = |among: &[Candidate]| {
                among[Balance::UidHash.choose(among, Ask { turn: affinity, lot: 7, affinity }).unwrap()].node
            };
            let chosen = node(&all);
            for away in 1..=3 {
                let rest: Vec<Candidate> = all.iter().copied().filter(|it| it.node != away).collect();
                assert!(away == chosen || node(&rest) == chosen, "account {affinity}");
            }
        }
    }

    #[test]
    fn nodes_without_any_weight_take_turns() {
        let nodes = [of(1, 0, 0), of(2, 0, 0)];
        assert_eq!(counts(Balance::Weighted, &nodes, 10), [5, 5]);
    }
}
