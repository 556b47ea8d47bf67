//! Suggestions for unknown names ("did you mean …?").

/// Edits for every three characters of a name that still count as a slip.
const CHARS_PER_EDIT: usize = 3;

/// Beginning of the TOML parser's message about an unknown name.
const UNKNOWN: [&str; 2] = ["unknown field `", "unknown variant `"];

/// Returns the known name closest to `wanted`, if one is close. Ignores case.
fn closest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let edits = |name: &str| strsim::osa_distance(&wanted, &name.to_lowercase());
    let most = wanted.chars().count().div_ceil(CHARS_PER_EDIT);
    known.into_iter().map(|name| (edits(name), name)).filter(|(edits, _)| *edits <= most).min().map(|(_, name)| name)
}

/// Returns the suggestion as the end of a sentence, or an empty string.
pub(crate) fn hint<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    closest(wanted, known).map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

/// Returns the unknown name in a message of the TOML parser, and the name that is probably meant.
pub(crate) fn slip(message: &str) -> Option<(&str, &str)> {
    let names = UNKNOWN.iter().find_map(|begin| message.strip_prefix(begin))?;
    // "x`, expected one of `a`, `b`": the odd pieces between quotes are names.
    let mut pieces = names.split('`');
    let wanted = pieces.next()?;
    Some((wanted, closest(wanted, pieces.skip(1).step_by(2))?))
}

/// Returns a message of the TOML parser with a suggestion instead of its list of all names, if one is
/// close.
pub(crate) fn explain(message: &str) -> String {
    let message = message.trim_end();
    if message == "missing field `access`" {
        return "this route has no access rule; write access = \"user\", access = { roles = [\"admin\"] }, or \
                access = \"public\" for everyone"
            .to_owned();
    }
    match (slip(message), message.split_once(", expected")) {
        (Some((_, meant)), Some((head, _))) => format!("{head}; did you mean `{meant}`?"),
        (Some(_) | None, _) => message.to_owned(),
    }
}
