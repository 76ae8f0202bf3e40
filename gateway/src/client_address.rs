//! Where a request comes from: the socket's other end, or what a configured proxy says it is; and networks of addresses.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// All addresses that begin with the same bits, written `10.0.0.0/8`; one address is a network too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    /// As an address of the sixth version, where those of the fourth are mapped.
    address: u128,
    /// How many bits count.
    prefix: u8,
}

impl Network {
    /// From its sixteen bytes and how many of their bits count; `None` when that is none.
    pub fn from_parts(address: [u8; 16], prefix: u8) -> Option<Network> {
        (prefix <= 128).then(|| Network { address: u128::from_be_bytes(address) & mask(prefix), prefix })
    }

    /// Its sixteen bytes, and how many of their bits count.
    pub fn parts(&self) -> ([u8; 16], u8) {
        (self.address.to_be_bytes(), self.prefix)
    }

    /// Whether the address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        bits(address) & mask(self.prefix) == self.address
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Network, String> {
        text.parse()
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let complaint = || format!("{text:?} is neither an address nor a network such as 10.0.0.0/8");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| complaint())?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(bits_max), str::parse::<u8>).ok().filter(|prefix| *prefix <= bits_max);
        let prefix = prefix.ok_or_else(complaint)? + if address.is_ipv4() { 96 } else { 0 };
        Ok(Network { address: bits(address) & mask(prefix), prefix })
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = Ipv6Addr::from_bits(self.address);
        match address.to_ipv4_mapped() {
            Some(address) if self.prefix == 128 => write!(f, "{address}"),
            Some(address) if self.prefix >= 96 => write!(f, "{address}/{}", self.prefix - 96),
            _ if self.prefix == 128 => write!(f, "{address}"),
            _ => write!(f, "{address}/{}", self.prefix),
        }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(prefix: u8) -> u128 {
    if prefix == 0 { 0 } else { u128::MAX << (128 - u32::from(prefix.min(128))) }
}

/// Who is counted for an address: those of the sixth version are handed out by the network of 64 bits, so that is one client.
pub fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & mask(64)).into(),
        address => address,
    }
}

/// Who asks: `peer`, unless that is a trusted proxy; then the last address in its `X-Forwarded-For` that is not one. What
/// stands before that, anybody may have written. `forwarded` gives the values of all such headers in order.
pub fn client<'a>(peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a [u8]>, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let hops = forwarded.rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    for hop in hops {
        // A proxy that writes something else is not understood; it is then the one who asks.
        let Some(address) = std::str::from_utf8(hop).ok().and_then(|hop| hop.trim().parse::<IpAddr>().ok()) else {
            return client;
        };
        client = address.to_canonical();
        if !is_trusted(client) {
            return client;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_what_begins_as_it_does() {
        let ten = network("10.1.2.3/8");
        assert_eq!(ten.to_string(), "10.0.0.0/8");
        assert!(ten.contains([10, 200, 0, 1].into()) && !ten.contains([11, 0, 0, 1].into()));
        assert!(ten.contains("::ffff:10.0.0.1".parse().unwrap()) && !ten.contains("::1".parse().unwrap()));
        let one = network("2001:db8::1");
        assert!(one.contains("2001:db8::1".parse().unwrap()) && !one.contains("2001:db8::2".parse().unwrap()));
        let all = network("0.0.0.0/0");
        assert!(all.contains([1, 2, 3, 4].into()) && !all.contains("2001:db8::1".parse().unwrap()));
        assert!(network("::/0").contains([1, 2, 3, 4].into()));
        for text in ["10.1.0.0/16", "192.0.2.1", "::1", "2001:db8::/32", "::/0", "0.0.0.0/0"] {
            assert_eq!(network(text).to_string(), text);
            let (address, prefix) = network(text).parts();
            assert_eq!(Network::from_parts(address, prefix), Some(network(text)));
        }
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "a/8", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_says_who_asks_and_only_the_last_untrusted_hop_counts() {
        let trusted = [network("10.0.0.0/8"), network("192.0.2.7")];
        let proxy: IpAddr = [10, 0, 0, 1].into();
        let ask = |peer: IpAddr, values: &[&str]| {
            client(peer, values.iter().map(|value| value.as_bytes()), &trusted).to_string()
        };
        // Nobody else is believed.
        assert_eq!(ask([203, 0, 113, 9].into(), &["1.2.3.4"]), "203.0.113.9");
        assert_eq!(client(proxy, [b"1.2.3.4".as_slice()].into_iter(), &[]), proxy);
        let table: [(&[&str], &str); 11] = [
            (&[], "10.0.0.1"),
            (&["198.51.100.1"], "198.51.100.1"),
            (&["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
            (&["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
            (&["198.51.100.1, 192.0.2.7"], "198.51.100.1"),
            (&["198.51.100.1,10.9.9.9 , 192.0.2.7"], "198.51.100.1"),
            (&["10.2.2.2, 10.3.3.3"], "10.2.2.2"),
            (&["198.51.100.1, unknown"], "10.0.0.1"),
            (&["198.51.100.1, 192.0.2.7, "], "10.0.0.1"),
            (&["6.6.6.6, 2001:db8::5"], "2001:db8::5"),
            (&["::ffff:198.51.100.1"], "198.51.100.1"),
        ];
        for (values, expected) in table {
            assert_eq!(ask(proxy, values), expected, "{values:?}");
        }
        assert_eq!(ask("::ffff:10.0.0.1".parse().unwrap(), &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client(proxy, [&[0xff_u8, 0xfe][..]].into_iter(), &trusted), proxy);
    }

    #[test]
    fn a_client_with_a_network_of_its_own_is_counted_as_one() {
        let address = |text: &str| counted(text.parse().unwrap());
        assert_eq!(address("2001:db8:1:2:3:4:5:6"), address("2001:db8:1:2::1"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("::ffff:192.0.2.1"), IpAddr::from([192, 0, 2, 1]));
    }
}
