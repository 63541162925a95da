//! Reads a certificate's validity period (RFC 5280 §4.1.2.5) from its DER.

use time::PrimitiveDateTime;
use time::macros::format_description;

/// The first tag is the version, which version 1 certificates omit.
const VERSION: u8 = 0xa0;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notBefore` and `notAfter` in seconds since 1970; `None` if this is not a certificate.
pub fn of(der: &[u8]) -> Option<(i64, i64)> {
    let (_, certificate, _) = read(der)?;
    let (_, mut rest, _) = read(certificate)?;
    let (tag, _, after) = read(rest)?;
    if tag == VERSION {
        rest = after;
    }
    // The serial number, the signature's algorithm, the issuer.
    for _ in 0..3 {
        rest = read(rest)?.2;
    }
    let (tag, validity, _) = read(rest)?;
    let (begin_tag, begin, after) = read(validity)?;
    let (end_tag, end, _) = read(after)?;
    (tag == SEQUENCE).then_some(())?;
    Some((unix(begin_tag, begin)?, unix(end_tag, end)?))
}

/// The first element: its tag, its contents, and the rest.
fn read(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        rest = after;
        (bytes.len() <= 4).then_some(())?;
        bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
    };
    let (contents, after) = rest.split_at_checked(length)?;
    Some((tag, contents, after))
}

fn unix(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let whole = match tag {
        // A two-digit year means 1950 to 2049.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let format = format_description!("[year][month][day][hour][minute][second]Z");
    Some(PrimitiveDateTime::parse(&whole, format).ok()?.assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(from: i32, to: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["etcd".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_a_date_are_read() {
        // From 2050 on, a year has four digits.
        assert_eq!(of(&certificate(2020, 2060)), Some((1_577_836_800, 2_840_140_800)));
    }

    #[test]
    fn what_is_no_certificate_has_no_validity() {
        let whole = certificate(2020, 2030);
        assert!(of(&whole).is_some());
        for cut in [0, 1, 20, 60, 90] {
            assert_eq!(of(&whole[..cut]), None);
        }
    }
}
