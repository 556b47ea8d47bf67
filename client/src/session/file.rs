//! A session in a file, shared by the processes of one user on one machine.
//!
//! Only the owner can read the file (0600). A rename replaces it as a whole, so a reader never sees
//! half a session, and a crash leaves the old or the new one. The advisory lock is on a second file
//! that stays: a lock on the file itself would be on the one that the rename discards.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::{Duration, Instant};

use super::store::{LOCK_WAIT, SessionStore, SessionTokens, StoreGuard, is_expected};
use crate::{error::StoreError, secret::Secret};

/// Version of the file format.
const VERSION: u32 = 1;

/// Bytes of a file: an access token of 16 KB, the gateway's limit, and a refresh token fit.
const FILE_BYTES: u64 = 32 * 1024;

const NANOS_A_MILLI: i128 = 1_000_000;

/// The pause between two attempts to lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A session in a file. The directory must exist.
#[derive(Debug, Clone)]
pub struct FileStore {
    path: PathBuf,
    lock_wait: Duration,
}

#[derive(Deserialize)]
struct StoredFile {
    version: u32,
    access_token: Secret,
    refresh_token: Secret,
    /// Milliseconds since 1970.
    expires_at: i128,
    renew_at: i128,
    issued_at: i128,
}

#[derive(Serialize)]
struct FileToStore<'a> {
    version: u32,
    access_token: &'a str,
    refresh_token: &'a str,
    expires_at: i128,
    renew_at: i128,
    issued_at: i128,
}

impl FileStore {
    /// Returns the store of a file, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), lock_wait: LOCK_WAIT }
    }

    /// Sets the longest wait for the lock of another process (default: 30 s).
    #[must_use]
    pub const fn with_lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }

    fn open_lock(&self) -> Result<File, StoreError> {
        let mut name = self.path.file_name().ok_or(StoreError::Io(ErrorKind::InvalidInput))?.to_owned();
        name.push(".lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(options.open(self.path.with_file_name(name))?)
    }
}

fn read(path: &Path) -> Result<Option<SessionTokens>, StoreError> {
    let Some(file) = open(path)? else { return Ok(None) };
    check_private(&file)?;
    parse(file)
}

/// Reads what can be read of a file, whatever its mode is.
fn salvage(path: &Path) -> Result<Option<SessionTokens>, StoreError> {
    let Some(file) = open(path)? else { return Ok(None) };
    match parse(file) {
        Err(StoreError::Malformed) => Ok(None),
        other => other,
    }
}

fn open(path: &Path) -> Result<Option<File>, StoreError> {
    // Opening a pipe would block until a process writes to it.
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(File::open(path)?)),
        Ok(_) => Err(StoreError::Io(ErrorKind::InvalidInput)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn parse(file: File) -> Result<Option<SessionTokens>, StoreError> {
    let mut text = Vec::new();
    file.take(FILE_BYTES).read_to_end(&mut text)?;
    let stored: StoredFile = serde_json::from_slice(&text).map_err(|_| StoreError::Malformed)?;
    let at = |millis: i128| {
        let nanos = millis.saturating_mul(NANOS_A_MILLI);
        OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| StoreError::Malformed)
    };
    if stored.version != VERSION {
        return Err(StoreError::Malformed);
    }
    Ok(Some(SessionTokens {
        access_token: stored.access_token,
        refresh_token: stored.refresh_token,
        expires_at: at(stored.expires_at)?,
        renew_at: at(stored.renew_at)?,
        issued_at: at(stored.issued_at)?,
    }))
}

/// Refuses a file that other users can read: they may know the token. Correcting the mode
/// silently would hide that from the owner.
#[cfg(unix)]
fn check_private(file: &File) -> Result<(), StoreError> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions());
    if mode & 0o077 == 0 { Ok(()) } else { Err(StoreError::Exposed) }
}

#[cfg(not(unix))]
fn check_private(_: &File) -> Result<(), StoreError> {
    Ok(())
}

fn write(path: &Path, tokens: &SessionTokens) -> Result<(), StoreError> {
    let millis = |at: OffsetDateTime| at.unix_timestamp_nanos().div_euclid(NANOS_A_MILLI);
    let file = FileToStore {
        version: VERSION,
        access_token: tokens.access_token.expose(),
        refresh_token: tokens.refresh_token.expose(),
        expires_at: millis(tokens.expires_at),
        renew_at: millis(tokens.renew_at),
        issued_at: millis(tokens.issued_at),
    };
    let text = serde_json::to_vec(&file).map_err(|_| StoreError::Malformed)?;
    // `load` would refuse a longer file.
    if !u64::try_from(text.len()).is_ok_and(|bytes| bytes <= FILE_BYTES) {
        return Err(StoreError::Other("the tokens are longer than a session file may be"));
    }
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Created with 0600 under an unpredictable name.
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(&text)?;
    // Before the rename, so that a crash does not leave an empty file under the name.
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn replace(path: &Path, expected: Option<&SessionTokens>, next: Option<&SessionTokens>) -> Result<bool, StoreError> {
    if !is_expected(read(path)?.as_ref(), expected) {
        return Ok(false);
    }
    put(path, next)?;
    Ok(true)
}

/// Writes or removes a session, whatever the content is.
fn put(path: &Path, next: Option<&SessionTokens>) -> Result<(), StoreError> {
    match next {
        Some(tokens) => write(path, tokens),
        None => match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        },
    }
}

/// Runs file operations on a thread for blocking work, so that a slow disk holds up no other task.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Other("the file operation was cancelled")))
}

#[async_trait]
impl SessionStore for FileStore {
    async fn load(&self) -> Result<Option<SessionTokens>, StoreError> {
        let path = self.path.clone();
        blocking(move || read(&path)).await
    }

    async fn replace(
        &self,
        expected: Option<&SessionTokens>,
        next: Option<&SessionTokens>,
    ) -> Result<bool, StoreError> {
        let (path, expected, next) = (self.path.clone(), expected.cloned(), next.cloned());
        blocking(move || replace(&path, expected.as_ref(), next.as_ref())).await
    }

    async fn salvage(&self) -> Result<Option<SessionTokens>, StoreError> {
        let path = self.path.clone();
        blocking(move || salvage(&path)).await
    }

    async fn overwrite(&self, next: Option<&SessionTokens>) -> Result<(), StoreError> {
        let (path, next) = (self.path.clone(), next.cloned());
        blocking(move || put(&path, next.as_ref())).await
    }

    /// Polls the lock, because a wait in the kernel cannot be cancelled.
    async fn lock(&self) -> Result<StoreGuard, StoreError> {
        let store = self.clone();
        let file = blocking(move || store.open_lock()).await?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(StoreGuard::new(file)),
                Err(TryLockError::WouldBlock) if begun.elapsed() < self.lock_wait => {
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                Err(TryLockError::WouldBlock) => return Err(StoreError::Busy),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(name: &str, expires_at: i64) -> SessionTokens {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        SessionTokens {
            access_token: Secret::new(format!("access-{name}")),
            refresh_token: Secret::new(format!("refresh-{name}")),
            expires_at: at(expires_at),
            renew_at: at(expires_at),
            issued_at: at(expires_at),
        }
    }

    #[tokio::test]
    async fn what_is_replaced_is_what_was_expected_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::new(folder.path().join("session"));
        let (one, two) = (tokens("1", 1000), tokens("2", 2000));
        assert_eq!(store.load().await, Ok(None));
        assert_eq!(store.replace(Some(&one), Some(&two)).await, Ok(false));
        assert_eq!(store.replace(None, Some(&one)).await, Ok(true));
        assert_eq!(store.load().await, Ok(Some(one.clone())));
        assert_eq!(store.replace(None, Some(&two)).await, Ok(false));
        assert_eq!(store.replace(Some(&two), None).await, Ok(false));
        assert_eq!(store.replace(Some(&one), Some(&two)).await, Ok(true));
        assert_eq!(store.replace(Some(&two), None).await, Ok(true));
        assert_eq!(store.load().await, Ok(None));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_file_is_its_owners_alone_and_one_that_is_not_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session");
        let store = FileStore::new(&path);
        store.replace(None, Some(&tokens("1", 1000))).await.unwrap();
        drop(store.lock().await.unwrap());
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(store.load().await, Err(StoreError::Exposed));
    }

    #[tokio::test]
    async fn what_is_no_session_is_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        for text in [
            "",
            "{}",
            "null",
            r#"{"version":2,"access_token":"a","refresh_token":"r","expires_at":1,"renew_at":1,"issued_at":1}"#,
        ] {
            let mut file = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            assert_eq!(FileStore::new(file.path()).load().await, Err(StoreError::Malformed), "{text}");
        }
        assert!(FileStore::new(folder.path().join("nowhere/session")).lock().await.is_err());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_is_a_failure_and_not_an_empty_store() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = FileStore::new(folder.path().join("nowhere/session"));
        let missing = StoreError::Io(ErrorKind::NotFound);
        assert_eq!(nowhere.replace(None, Some(&tokens("1", 1000))).await, Err(missing));
        assert_eq!(nowhere.lock().await.unwrap_err(), missing);
        assert_eq!(FileStore::new("/").lock().await.unwrap_err(), StoreError::Io(ErrorKind::InvalidInput));
        let below_a_file = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
        let store = FileStore::new(below_a_file.path().join("session"));
        assert_eq!(store.load().await, Err(StoreError::Io(ErrorKind::NotADirectory)));
        // A folder, and a pipe that nothing writes to.
        assert_eq!(FileStore::new(folder.path()).load().await, Err(StoreError::Io(ErrorKind::InvalidInput)));
        // A name without a folder is one in the folder that the program is in.
        assert_eq!(FileStore::new("no-session-has-this-name").load().await, Ok(None));
    }

    #[tokio::test]
    async fn no_more_is_written_to_a_file_or_read_of_it_than_a_session_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session");
        let store = FileStore::new(&path);
        let mut long = tokens("1", 1000);
        long.access_token = Secret::new("x".repeat(16 * 1024));
        assert_eq!(store.replace(None, Some(&long)).await, Ok(true));
        let mut longer = long.clone();
        longer.access_token = Secret::new("x".repeat(64 * 1024));
        assert!(store.replace(Some(&long), Some(&longer)).await.is_err());
        assert_eq!(store.load().await, Ok(Some(long)), "the session before");
        let text = std::fs::read_to_string(&path).unwrap();
        let padding = " ".repeat(32 * 1024);
        std::fs::write(&path, format!("{padding}{text}")).unwrap();
        assert_eq!(store.load().await, Err(StoreError::Malformed));
    }

    #[tokio::test]
    async fn one_holds_the_lock_and_the_other_waits_for_a_bounded_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::new(folder.path().join("session")).with_lock_wait(Duration::from_millis(60));
        let guard = store.lock().await.unwrap();
        assert_eq!(store.lock().await.unwrap_err(), StoreError::Busy);
        drop(guard);
        assert!(store.lock().await.is_ok());
    }
}
