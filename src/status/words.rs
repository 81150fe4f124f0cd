//! How numbers are said to people.

/// Seconds in the unit a person would choose.
pub fn age(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        seconds if seconds < 7_200.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.0} h", seconds / 3_600.0),
        seconds => format!("{:.0} days", seconds / 86_400.0),
    }
}

/// A whole number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Bytes in the unit a person would choose.
pub fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes < 10 << 20 => format!("{:.1} MB", bytes as f64 / f64::from(1 << 20)),
        bytes => format!("{} MB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_said_as_people_say_them() {
        assert_eq!(age(0.4), "0 s");
        assert_eq!(age(119.0), "119 s");
        assert_eq!(age(3_600.0), "60 min");
        assert_eq!(age(90_000.0), "25 h");
        assert_eq!(age(864_000.0), "10 days");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_204), "1,204");
        assert_eq!(grouped(12_345_678), "12,345,678");
        assert_eq!(size(9 << 20), "9.0 MB");
    }
}
