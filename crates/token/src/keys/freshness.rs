//! How long a fetched key set is fresh (RFC 9111, section 5.2.2).

use super::limits;

/// Returns the milliseconds for which a key set is fresh, from the `Cache-Control` of its response.
/// Bounded, so that an issuer can neither cause constant fetches nor keep a removed key for days.
pub fn fresh_ms(cache_control: Option<&str>) -> u64 {
    let Some(text) = cache_control else { return limits::FRESH_MS };
    let mut max_age = None;
    for directive in text.split(',').map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return limits::FRESH_MIN_MS;
        }
        if name.eq_ignore_ascii_case("max-age") {
            max_age = max_age.or(value.trim_matches('"').parse::<u64>().ok());
        }
    }
    max_age.map_or(limits::FRESH_MS, |seconds| {
        seconds.saturating_mul(1000).clamp(limits::FRESH_MIN_MS, limits::FRESH_MAX_MS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_control_counts_within_bounds() {
        for (text, seconds) in [
            (None, 600),
            (Some(""), 600),
            (Some("public"), 600),
            (Some("max-age=300"), 300),
            (Some("public, Max-Age=900, must-revalidate"), 900),
            (Some("max-age=\"120\""), 120),
            (Some("max-age=0"), 60),
            (Some("max-age=1"), 60),
            (Some("max-age=31536000"), 3600),
            (Some("max-age=99999999999999999999"), 600),
            (Some("max-age=-1"), 600),
            (Some("max-age=x"), 600),
            (Some("no-store"), 60),
            (Some("max-age=900, no-cache"), 60),
            (Some("s-maxage=900"), 600),
        ] {
            assert_eq!(fresh_ms(text), seconds * 1000, "{text:?}");
        }
    }
}
