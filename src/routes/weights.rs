//! Fixed weights as shares of a route, and shares as HAProxy's weights.

/// The largest weight of a server (configuration manual 2.6, 5.2 "weight").
const MOST: f64 = 256.0;

/// The share of each target, all together 1: a fixed weight is a share; those above 1 are scaled down,
/// those below 1 scaled up where nobody else takes the rest.
pub fn shares(fixed: &[Option<f64>]) -> Vec<f64> {
    let sum: f64 = fixed.iter().flatten().sum();
    let free = fixed.iter().filter(|weight| weight.is_none()).count();
    let scale = if sum > 1.0 || (free == 0 && sum > 0.0) {
        1.0 / sum
    } else {
        1.0
    };
    // Of many targets the count is exact in 52 bits.
    let rest = (1.0 - sum * scale).max(0.0) / (free.max(1) as f64);
    fixed
        .iter()
        .map(|weight| weight.map_or(rest, |weight| weight * scale))
        .collect()
}

/// Shares as weights: the largest gets 256, the others as near as that allows; 0 stays 0.
pub fn scaled(shares: &[f64]) -> Vec<u16> {
    let largest = shares.iter().copied().fold(0.0, f64::max);
    let weight = |share: f64| {
        if share <= 0.0 || largest <= 0.0 {
            return 0;
        }
        // Between 1 and 256.
        (share / largest * MOST).round().clamp(1.0, MOST) as u16
    };
    shares.iter().map(|share| weight(*share)).collect()
}

/// Whether a share is so small beside the largest that no weight says it.
pub fn is_fine(share: f64, largest: f64) -> bool {
    share > 0.0 && share * MOST < largest
}
