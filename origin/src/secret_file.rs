//! Files that contain a secret. A file that other users can read is rejected, because they may have
//! read the secret.

use std::{fs::File, io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

use portcullis_client::secret::Secret;

use crate::{limits, setting_error::SettingError};

/// Reads a small file. `name` is the setting that names the file.
///
/// # Errors
/// [`SettingError`], also if other users can read the file or it is too long.
pub fn read(name: &str, file: &Path) -> Result<Secret, SettingError> {
    let mut text = String::new();
    open(name, file)?
        .take(limits::SECRET_FILE_BYTES.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(|error| unreadable(name, file, &error))?;
    // The beginning of a secret is another secret, which may be easy to guess.
    if u64::try_from(text.len()).is_ok_and(|length| length > limits::SECRET_FILE_BYTES) {
        let most = limits::SECRET_FILE_BYTES;
        return Err(SettingError(format!("{name} {} has more than {most} bytes", file.display())));
    }
    Ok(Secret::new(text))
}

/// Reads the first line of a file.
///
/// # Errors
/// [`SettingError`], also if other users can read the file, it is too long, or the line is empty.
pub fn read_first_line(name: &str, file: &Path) -> Result<Secret, SettingError> {
    let text = read(name, file)?;
    match text.expose().lines().next() {
        Some(line) if !line.trim().is_empty() => Ok(Secret::new(line.to_owned())),
        _ => Err(SettingError(format!("{name} {} has an empty first line; write the secret there", file.display()))),
    }
}

/// Opens a file. Pipes and devices are accepted with any mode.
///
/// # Errors
/// [`SettingError`], also if other users can read the file.
pub fn open(name: &str, file: &Path) -> Result<File, SettingError> {
    let open = File::open(file).map_err(|error| unreadable(name, file, &error))?;
    let metadata = open.metadata().map_err(|error| unreadable(name, file, &error))?;
    let own_user = rustix::process::geteuid().as_raw();
    if metadata.is_file() && !is_private(metadata.mode(), metadata.uid(), own_user) {
        return Err(SettingError(format!(
            "{name} {file} can be read by other users; run: chmod 600 {file} (for a file that root owns and the service's \
             group reads: chmod 640; in Kubernetes: defaultMode: 0440 and an fsGroup)",
            file = file.display()
        )));
    }
    Ok(open)
}

/// Returns whether a file with this mode and owner is private to a process of the user `own_user`: only
/// the owner has access, or root owns it and a group may read it. PostgreSQL has the same rule. A
/// mounted secret belongs to root, and a service that is not root cannot change its mode.
const fn is_private(mode: u32, owner: u32, own_user: u32) -> bool {
    const ROOT: u32 = 0;
    let forbidden = if owner == ROOT && own_user != ROOT { 0o037 } else { 0o077 };
    mode & forbidden == 0
}

fn unreadable(name: &str, file: &Path, error: &std::io::Error) -> SettingError {
    SettingError(format!("{name} {} cannot be read: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_file_is_private_to_its_owner_or_belongs_to_root_and_is_readable_by_a_group() {
        const ROOT: u32 = 0;
        const OURS: u32 = 1000;
        const OTHER: u32 = 1001;
        for (mode, owner, own_user, expected) in [
            (0o600, OURS, OURS, true),
            (0o400, OURS, OURS, true),
            (0o640, OURS, OURS, false),
            (0o440, OURS, OURS, false),
            (0o604, OURS, OURS, false),
            // A secret of Kubernetes with `defaultMode: 0440`; Debian's root:ssl-cert.
            (0o440, ROOT, OURS, true),
            (0o640, ROOT, OURS, true),
            (0o600, ROOT, OURS, true),
            (0o100_640, ROOT, OURS, true),
            (0o660, ROOT, OURS, false),
            (0o650, ROOT, OURS, false),
            (0o644, ROOT, OURS, false),
            (0o642, ROOT, OURS, false),
            (0o641, ROOT, OURS, false),
            // Root itself needs no group.
            (0o600, ROOT, ROOT, true),
            (0o640, ROOT, ROOT, false),
            (0o600, OTHER, ROOT, true),
            (0o640, OTHER, ROOT, false),
            (0o640, OTHER, OURS, false),
        ] {
            assert_eq!(is_private(mode, owner, own_user), expected, "{mode:o} of {owner} for {own_user}");
        }
    }
}
