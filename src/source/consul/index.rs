//! The rules of Consul's blocking-query index. Pure.
//!
//! Source: Consul, website/content/api-docs/features/blocking.mdx ("Implementation Details"); the
//! index of an answer that is not good is never looked at, since Consul 1.8.7 sends
//! `X-Consul-Index: 1` with a 500.

/// The index to send first, and after any failure or change of address: do not block.
pub(super) const FRESH: u64 = 0;

/// Reads the values of the `X-Consul-Index` header: exactly one, digits only, above zero.
pub(super) fn parse<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<u64> {
    let mut values = values.into_iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let index: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (index > 0).then_some(index)
}

/// The index to send after a good answer to a query that carried `sent`.
///
/// Lower than before: start over, history was rewritten. None usable: 1, because 0 would not block.
pub(super) fn next(sent: u64, received: Option<u64>) -> u64 {
    match received {
        None => 1,
        Some(received) if received < sent => FRESH,
        Some(received) => received,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // A20
    #[test]
    fn only_a_single_plain_number_is_an_index() {
        assert_eq!(parse([b"42".as_slice()]), Some(42));
        assert_eq!(parse([b"18446744073709551615".as_slice()]), Some(u64::MAX));
        for odd in [
            "",
            "0",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1,2",
            "0x1",
            "1.0",
            "18446744073709551616",
        ] {
            assert_eq!(parse([odd.as_bytes()]), None, "{odd:?}");
        }
        assert_eq!(parse([b"1".as_slice(), b"1".as_slice()]), None);
        assert_eq!(parse([]), None);
    }

    // B01 B02
    #[test]
    fn a_lower_index_starts_over_and_none_waits_with_one() {
        assert_eq!(next(7, Some(9)), 9);
        assert_eq!(next(7, Some(7)), 7);
        assert_eq!(next(211, Some(8)), 0);
        assert_eq!(next(211, None), 1);
        assert_eq!(next(0, None), 1);
    }

    proptest! {
        // A20
        #[test]
        fn any_bytes_are_read_without_a_panic(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..24), 0..3)) {
            if let Some(index) = parse(values.iter().map(Vec::as_slice)) {
                prop_assert!(index > 0);
                prop_assert_eq!(values.len(), 1);
            }
        }

        // B01
        #[test]
        fn an_index_is_never_ahead_of_what_consul_sent(sent: u64, received in prop::option::of(1u64..)) {
            let next = next(sent, received);
            prop_assert!(next == 0 || next == 1 || Some(next) == received);
            // Only a fall leads to a query that does not block.
            prop_assert_eq!(next == 0, received.is_some_and(|received| received < sent));
        }
    }
}
