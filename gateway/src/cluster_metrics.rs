//! What `/metrics` says of the cluster.

use std::fmt::Write;

use journal::{ClusterStatus, MemberStatus, Role};

use crate::samples::lag_entries;

/// The page's part about the cluster as `status` has it; nothing for a node alone.
pub fn render(status: &ClusterStatus) -> String {
    let mut page = String::new();
    if status.members.len() < 2 {
        return page;
    }
    let is_leader = u8::from(status.leader == Some(status.asked));
    single(&mut page, "rialto_cluster_leads", "1 on the node that leads.", u64::from(is_leader));
    single(&mut page, "rialto_cluster_has_leader", "1 where a leader is known.", u64::from(status.leader.is_some()));
    single(&mut page, "rialto_cluster_term", "Raft's term.", status.term);
    let reachable = |member: &MemberStatus| u64::from(member.role != Role::Unreachable);
    let troubled = |member: &MemberStatus| u64::from(member.trouble.is_some());
    let lag = |member: &MemberStatus| lag_entries(status, member.applied_index);
    each(&mut page, status, "rialto_cluster_member_reachable", "1 for a member that was heard of just now.", reachable);
    each(&mut page, status, "rialto_cluster_member_trouble", "1 for a member with which something is wrong.", troubled);
    each(&mut page, status, "rialto_cluster_member_lag_entries", "Log entries that a member has not applied.", lag);
    page
}

fn single(page: &mut String, name: &str, help: &str, value: u64) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
}

fn each(page: &mut String, status: &ClusterStatus, name: &str, help: &str, value: impl Fn(&MemberStatus) -> u64) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} gauge");
    for member in &status.members {
        let _ = writeln!(page, "{name}{{node=\"{}\"}} {}", member.node, value(member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_behind_or_gone_is_named() {
        let member = |node, role, applied_index| MemberStatus {
            node,
            address: format!("host-{node}:7081"),
            role,
            voter: true,
            applied_sequence: 0,
            applied_index,
            log_index: applied_index,
            state_hash: Default::default(),
            trouble: (role == Role::Unreachable).then(|| "it does not answer".to_owned()),
            version: String::new(),
        };
        let members = vec![member(1, Role::Leader, 90), member(2, Role::Unreachable, 40)];
        let page = render(&ClusterStatus { asked: 1, term: 7, leader: Some(1), members });
        for line in [
            "rialto_cluster_leads 1",
            "rialto_cluster_term 7",
            "rialto_cluster_member_reachable{node=\"2\"} 0",
            "rialto_cluster_member_trouble{node=\"2\"} 1",
            "rialto_cluster_member_lag_entries{node=\"2\"} 50",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }
}
