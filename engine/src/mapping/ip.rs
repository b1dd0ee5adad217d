//! IP addresses as 16 bytes: IPv6 as it is, IPv4 mapped into `::ffff:0:0/96`, so that byte order is address order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Reads an address.
#[must_use]
pub fn parse(text: &str) -> Option<[u8; 16]> {
    // A scope (`fe80::1%eth0`) is not part of the address.
    let text = text.split_once('%').map_or(text, |(address, _)| address);
    Some(match text.parse().ok()? {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    })
}

/// Reads `address/prefix` as its first and last address.
///
/// # Errors
/// What is wrong, in Elasticsearch's words.
pub fn parse_cidr(text: &str) -> Result<RangeInclusive<[u8; 16]>, String> {
    let (address, prefix) = text.split_once('/').ok_or_else(|| format!("Expected [ip/prefix] but was [{text}]"))?;
    let bytes = parse(address).ok_or_else(|| format!("'{address}' is not an IP string literal."))?;
    let is_v4 = !address.contains(':');
    let bits_max: u32 = if is_v4 { 32 } else { 128 };
    let prefix: u32 = prefix.parse().ok().filter(|p| *p <= bits_max).ok_or_else(|| {
        format!("Illegal prefix length [{prefix}] in [{text}]. Must be 0-32 for IPv4 ranges, 0-128 for IPv6 ranges")
    })?;
    let host_bits = bits_max - prefix;
    let mask = 1u128.checked_shl(host_bits).map_or(u128::MAX, |bit| bit - 1);
    let value = u128::from_be_bytes(bytes);
    Ok((value & !mask).to_be_bytes()..=(value | mask).to_be_bytes())
}

/// Writes an address as Elasticsearch does: IPv4 with dots, IPv6 in its short form.
#[must_use]
pub fn print(bytes: &[u8; 16]) -> String {
    let address = Ipv6Addr::from(*bytes);
    match address.to_ipv4_mapped() {
        Some(v4) => Ipv4Addr::to_string(&v4),
        None => {
            // Rust writes ::1.2.3.4 for addresses that only look like IPv4; nobody else does.
            let text = address.to_string();
            if text.contains('.') {
                let s = address.segments();
                format!("::{:x}:{:x}", s[6], s[7])
            } else {
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, shown) in [
            ("192.168.0.1", "192.168.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
            ("::1", "::1"),
            ("::", "::"),
            ("fe80::1%eth0", "fe80::1"),
            ("::1.2.3.4", "::102:304"),
        ] {
            assert_eq!(print(&parse(text).unwrap()), shown, "{text}");
        }
        for bad in ["", "1.2.3", "1.2.3.256", "::g", "1.2.3.4/8", "01.2.3.4"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_block_is_a_range() {
        let range = |text| {
            let range = parse_cidr(text).unwrap();
            (print(range.start()), print(range.end()))
        };
        assert_eq!(range("10.1.2.3/8"), ("10.0.0.0".into(), "10.255.255.255".into()));
        assert_eq!(range("10.1.2.3/32"), ("10.1.2.3".into(), "10.1.2.3".into()));
        assert_eq!(range("0.0.0.0/0"), ("0.0.0.0".into(), "255.255.255.255".into()));
        assert_eq!(range("2001:db8::/126"), ("2001:db8::".into(), "2001:db8::3".into()));
        assert_eq!(range("::/0").1, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        for bad in ["10.0.0.0/33", "::/129", "x/8", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(parse_cidr(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_address_survives(bytes in any::<[u8; 16]>()) {
            prop_assert_eq!(parse(&print(&bytes)), Some(bytes));
        }

        #[test]
        fn arbitrary_texts_never_panic(text in "\\PC{0,40}", digits in "[0-9a-f:./%]{0,40}") {
            for text in [text, digits] {
                let _ = parse(&text);
                let _ = parse_cidr(&text);
            }
        }
    }
}
