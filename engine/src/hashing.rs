//! Where things stand in the indexes. The tables are never iterated, so these decide nothing but speed.

use crate::order::ClientOrderId;
use crate::units::Uid;

/// Uids are given by the operator, so nobody can choose them to collide; those given one after the other are spread evenly.
pub fn hash_of_uid(uid: Uid) -> u32 {
    upper_half(uid.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Names are chosen by clients, and this is no secret: one who makes names collide lengthens the search among their own open
/// orders alone, of which the filters allow few.
pub fn hash_of_name(uid: Uid, name: ClientOrderId) -> u32 {
    let [a, b, c, d, e, f, g] = name.words().map(u64::from);
    let seed = uid.0 ^ 0x2d35_8dcc_aa6c_78a5;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let first = fold(a << 32 | b ^ seed, c << 32 | d | 0x8bb8_4b93_962e_acc9);
    let second = fold(e << 32 | f ^ 0x4b33_a62e_d433_d4a3, g ^ seed << 32 ^ 0x9e37_79b9_7f4a_7c15);
    upper_half(fold(first ^ 0x4d5a_2da5_1de1_aa47, second ^ 0xa076_1d64_78bd_642f))
}

fn upper_half(hash: u64) -> u32 {
    (hash >> 32) as u32
}
