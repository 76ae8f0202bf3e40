//! The header `traceparent` of the W3C's Trace Context: which trace a request is a part of.

/// A request that is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// The trace; never zero.
    pub trace: u128,
    /// The caller's span, where the caller said one.
    pub parent: Option<u64>,
}

impl Sampled {
    /// The beginning of a trace.
    pub fn root() -> Sampled {
        Sampled { trace: rand::random::<u128>().max(1), parent: None }
    }
}

/// What the header says: a request that is sampled, or one that is not. None where it says nothing that can be understood,
/// as if it were not there.
#[allow(clippy::option_option)]
pub fn parse(header: &[u8]) -> Option<Option<Sampled>> {
    let text = std::str::from_utf8(header).ok()?.trim_matches([' ', '\t']);
    let mut parts = text.splitn(5, '-');
    let version = parts.next().and_then(|text| hex(text, 2))?;
    let trace = parts.next().and_then(|text| hex(text, 32)).filter(|trace| *trace != 0)?;
    let parent = parts.next().and_then(|text| hex(text, 16)).filter(|parent| *parent != 0)?;
    let flags = parts.next().and_then(|text| hex(text, 2))?;
    // A later version may say more behind it; this one may not, and the last one is none.
    if version == 0xff || (version == 0 && parts.next().is_some()) {
        return None;
    }
    Some((flags & 1 == 1).then_some(Sampled { trace, parent: u64::try_from(parent).ok() }))
}

/// Exactly so many digits, in lower case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let legal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == digits && text.bytes().all(legal)).then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn the_example_of_the_standard_is_read() {
        let parent = Some(0xb7ad_6b71_6920_3331);
        let sampled = Sampled { trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, parent };
        assert_eq!(parse(format!("00-{TRACE}-b7ad6b7169203331-01").as_bytes()), Some(Some(sampled)));
        assert_eq!(parse(format!("00-{TRACE}-b7ad6b7169203331-00").as_bytes()), Some(None));
        // Other flags are for others; a later version may say more.
        assert_eq!(parse(format!("00-{TRACE}-b7ad6b7169203331-03").as_bytes()), Some(Some(sampled)));
        assert_eq!(parse(format!("01-{TRACE}-b7ad6b7169203331-01-more").as_bytes()), Some(Some(sampled)));
    }

    #[test]
    fn what_is_not_one_counts_as_not_sent() {
        let zeros = "0".repeat(32);
        let span = "b7ad6b7169203331";
        let wrong = [
            String::new(),
            "-".to_owned(),
            "00".to_owned(),
            format!("00-{TRACE}-{span}"),
            format!("00-{TRACE}-{span}-1"),
            format!("00-{TRACE}-{span}-01-more"),
            format!("ff-{TRACE}-{span}-01"),
            format!("00-{zeros}-{span}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-{span}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}0-{span}-01"),
            format!("00-+{}-{span}-01", &TRACE[1..]),
            format!("00-{TRACE}-{span}-zz"),
        ];
        for header in wrong {
            assert_eq!(parse(header.as_bytes()), None, "{header}");
        }
        assert_eq!(parse(&[0xff, 0xfe]), None);
    }
}
