//! TLS at the services' ports: loads a certificate and its key from two files, validates them, and
//! loads them again when they are renewed.
//!
//! A handshake offers rustls's safe defaults (RFC 8446, and RFC 5246 with forward secrecy) and HTTP/1.1.
//! It offers no early data, which an attacker could replay.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;
use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::sync::watch;

use crate::{limits, secret_file, setting_error::SettingError};

/// The configuration for new connections, which changes when the certificate is renewed.
pub type Configs = watch::Receiver<Arc<ServerConfig>>;

/// The files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Files {
    /// PEM file with the chain, the server's certificate first.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// The content of the files.
struct Content {
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// SHA-256 of a content, by which a change is detected without a second copy of the private key.
type Fingerprint = [u8; 32];

impl Content {
    fn fingerprint(&self) -> Fingerprint {
        let mut context = digest::Context::new(&digest::SHA256);
        // The length separates the two parts.
        context.update(&u64::try_from(self.cert.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(&self.cert);
        context.update(&self.key);
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }
}

impl Files {
    /// Loads the certificate and the key.
    ///
    /// # Errors
    /// [`SettingError`], which names the file and contains nothing of it.
    pub fn load(&self) -> Result<Arc<ServerConfig>, SettingError> {
        self.config(&self.read()?)
    }

    fn read(&self) -> Result<Content, SettingError> {
        Ok(Content {
            cert: read("TLS_CERT_FILE", &self.cert, File::open(&self.cert))?,
            key: read("TLS_KEY_FILE", &self.key, Ok(secret_file::open("TLS_KEY_FILE", &self.key)?))?,
        })
    }

    fn config(&self, content: &Content) -> Result<Arc<ServerConfig>, SettingError> {
        let (cert, key) = (self.cert.display(), self.key.display());
        let chain = CertificateDer::pem_slice_iter(&content.cert).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
            SettingError(format!(
                "TLS_CERT_FILE {cert} holds no certificate; set a PEM file with the whole chain, the server's \
                 certificate first"
            ))
        })?;
        let private = PrivateKeyDer::from_pem_slice(&content.key).map_err(|_| {
            SettingError(format!(
                "TLS_KEY_FILE {key} holds no private key; set a PEM file (PKCS#8, PKCS#1 or SEC1) without a password"
            ))
        })?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
        let mut config = config.map_err(|error| {
            SettingError(if error == rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
                format!(
                    "TLS_KEY_FILE {key} is not the key of the first certificate in TLS_CERT_FILE {cert}; set a \
                     certificate and its key, with the server's certificate first in the chain"
                )
            } else {
                format!(
                    "TLS_CERT_FILE {cert} and TLS_KEY_FILE {key} cannot be used ({error}); set an X.509 certificate \
                     and its RSA, ECDSA or Ed25519 key"
                )
            })
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn read(variable: &str, file: &Path, open: io::Result<File>) -> Result<Vec<u8>, SettingError> {
    let mut bytes = Vec::new();
    open.and_then(|open| open.take(limits::PEM_BYTES).read_to_end(&mut bytes))
        .map_err(|error: io::Error| SettingError(format!("{variable} {} cannot be read: {error}", file.display())))?;
    Ok(bytes)
}

/// Reloads the files when they change.
#[derive(Debug)]
pub struct Renewal {
    files: Files,
    configs: watch::Sender<Arc<ServerConfig>>,
    /// Fingerprint of the files at the last check; `None` if they could not be read.
    seen: Option<Fingerprint>,
    /// Whether that content is in use.
    is_in_use: bool,
    /// Whether its rejection is logged.
    is_logged: bool,
}

impl Renewal {
    /// Loads the first certificate.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn begin(files: Files) -> Result<(Self, Configs), SettingError> {
        let content = files.read()?;
        let (configs, receiver) = watch::channel(files.config(&content)?);
        Ok((Self { files, configs, seen: Some(content.fingerprint()), is_in_use: true, is_logged: false }, receiver))
    }

    /// Checks the files every [`limits::CERTIFICATE_LOOK`] until `stopped` is true.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(limits::CERTIFICATE_LOOK) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            let checked = tokio::task::spawn_blocking(move || {
                self.check();
                self
            });
            let Ok(renewal) = checked.await else { return };
            self = renewal;
        }
    }

    /// Loads a new content if it is valid. Contents are compared instead of times, because a renewal
    /// may copy, rename or relink files. An invalid content is logged at its second check, because the
    /// files do not match between the writes of the two.
    fn check(&mut self) {
        let content = self.files.read();
        let fingerprint = content.as_ref().ok().map(Content::fingerprint);
        let is_new = fingerprint != self.seen;
        if !is_new && (self.is_in_use || self.is_logged) {
            return;
        }
        self.seen = fingerprint;
        match content.and_then(|content| self.files.config(&content)) {
            Ok(config) => {
                self.configs.send_replace(config);
                (self.is_in_use, self.is_logged) = (true, false);
                tracing::info!("the renewed certificate is in use");
            }
            Err(_) if is_new => (self.is_in_use, self.is_logged) = (false, false),
            Err(fault) => {
                self.is_logged = true;
                tracing::error!(%fault, "the renewed certificate cannot be used; the previous one stays in use");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A self-signed certificate and its key.
    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned()];
        (CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn an_invalid_renewal_is_logged_once_at_its_second_check() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        let write = |cert: &str, key: &str| {
            std::fs::write(&files.cert, cert).unwrap();
            std::fs::write(&files.key, key).unwrap();
            std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        let (first, second) = (pair(), pair());
        write(&first.0, &first.1);
        let (mut renewal, configs) = Renewal::begin(files.clone()).unwrap();
        // The state after a check, and whether the check changed the configuration.
        let mut check = |is_in_use: bool, is_logged: bool, is_changed: bool| {
            let before = Arc::clone(&configs.borrow());
            renewal.check();
            assert_eq!((renewal.is_in_use, renewal.is_logged), (is_in_use, is_logged));
            assert_eq!(!Arc::ptr_eq(&before, &configs.borrow()), is_changed);
        };
        check(true, false, false);
        write(&second.0, &first.1);
        check(false, false, false);
        write(&second.0, &second.1);
        check(true, false, true);
        check(true, false, false);
        write(&second.0, &first.1);
        check(false, false, false);
        check(false, true, false);
        check(false, true, false);
        std::fs::remove_file(&files.key).unwrap();
        check(false, false, false);
        check(false, true, false);
        check(false, true, false);
        write(&second.0, &second.1);
        check(true, false, true);
        // A rollback to the previous certificate.
        write(&first.0, &first.1);
        check(true, false, true);
    }
}
