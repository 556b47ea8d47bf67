//! TLS at our own ports: a certificate and its key, read from two files, checked, and taken
//! up anew when they were renewed. Touches those files and nothing else.
//!
//! What a handshake offers is rustls's safe defaults (RFC 8446, RFC 5246 with forward
//! secrecy) and HTTP/1.1 alone; no early data, which an attacker may send again.

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

use crate::{
    limits,
    settings::{BadSetting, open_private},
};

/// What new connections are answered with: a renewed pair is there for all that come later.
pub type Configs = watch::Receiver<Arc<ServerConfig>>;

/// Where a certificate and its key lie.
#[derive(Debug, Clone)]
pub struct Files {
    /// The chain in PEM form, the server's own certificate first.
    pub cert: PathBuf,
    /// Its private key in PEM form.
    pub key: PathBuf,
}

/// What the files held at one look.
struct Content {
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// Tells one content from another, without a private key that is kept for it.
type Print = [u8; 32];

impl Content {
    fn print(&self) -> Print {
        let mut context = digest::Context::new(&digest::SHA256);
        // The length between them: no two pairs are one string.
        context.update(&u64::try_from(self.cert.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(&self.cert);
        context.update(&self.key);
        let mut print = Print::default();
        print.copy_from_slice(context.finish().as_ref());
        print
    }
}

impl Files {
    /// The pair, ready for handshakes.
    ///
    /// # Errors
    /// [`BadSetting`], which names the file and holds nothing of it.
    pub fn load(&self) -> Result<Arc<ServerConfig>, BadSetting> {
        self.config(&self.read()?)
    }

    fn read(&self) -> Result<Content, BadSetting> {
        Ok(Content {
            cert: read("TLS_CERT_FILE", &self.cert, File::open(&self.cert))?,
            key: read("TLS_KEY_FILE", &self.key, Ok(open_private("TLS_KEY_FILE", &self.key)?))?,
        })
    }

    fn config(&self, content: &Content) -> Result<Arc<ServerConfig>, BadSetting> {
        let (cert, key) = (self.cert.display(), self.key.display());
        let chain = CertificateDer::pem_slice_iter(&content.cert).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
            BadSetting(format!(
                "TLS_CERT_FILE {cert} holds no certificate; it wants the whole chain in PEM form, the server's own \
                 certificate first"
            ))
        })?;
        let private = PrivateKeyDer::from_pem_slice(&content.key).map_err(|_| {
            BadSetting(format!(
                "TLS_KEY_FILE {key} holds no private key; it wants one in PEM form (PKCS#8, PKCS#1 or SEC1), without a \
                 password"
            ))
        })?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
        let mut config = config.map_err(|error| {
            BadSetting(if error == rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
                format!(
                    "TLS_KEY_FILE {key} is not the key of the first certificate in TLS_CERT_FILE {cert}; set the two \
                     that belong together, the server's own certificate first in its chain"
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

fn read(variable: &str, file: &Path, open: io::Result<File>) -> Result<Vec<u8>, BadSetting> {
    let mut bytes = Vec::new();
    open.and_then(|open| open.take(limits::PEM_BYTES).read_to_end(&mut bytes))
        .map_err(|error: io::Error| BadSetting(format!("{variable} {} cannot be read: {error}", file.display())))?;
    Ok(bytes)
}

/// The pair in use, and the files that are looked at for the next one.
#[derive(Debug)]
pub struct Renewal {
    files: Files,
    configs: watch::Sender<Arc<ServerConfig>>,
    /// What the files held at the last look, if they could be read.
    seen: Option<Print>,
    /// Whether that is in use.
    is_good: bool,
    /// Whether the log has it that it is not.
    is_told: bool,
}

impl Renewal {
    /// Reads the first pair.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn begin(files: Files) -> Result<(Self, Configs), BadSetting> {
        let content = files.read()?;
        let (configs, receiver) = watch::channel(files.config(&content)?);
        Ok((Self { files, configs, seen: Some(content.print()), is_good: true, is_told: false }, receiver))
    }

    /// Looks now and then until `stopped` turns true.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(limits::CERTIFICATE_LOOK) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            let Ok(renewal) = looked.await else { return };
            self = renewal;
        }
    }

    /// Takes up what is new, if it is good. Contents are compared, not times: whoever renews
    /// may copy, rename or turn a link. What is bad is told of at its second look, because
    /// between the writing of the one file and of the other no pair fits.
    fn look(&mut self) {
        let content = self.files.read();
        let print = content.as_ref().ok().map(Content::print);
        let is_new = print != self.seen;
        if !is_new && (self.is_good || self.is_told) {
            return;
        }
        self.seen = print;
        match content.and_then(|content| self.files.config(&content)) {
            Ok(config) => {
                self.configs.send_replace(config);
                (self.is_good, self.is_told) = (true, false);
                tracing::info!("the renewed certificate is in use");
            }
            Err(_) if is_new => (self.is_good, self.is_told) = (false, false),
            Err(fault) => {
                self.is_told = true;
                tracing::error!(%fault, "the renewed certificate cannot be used; the one before it stays in use");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A certificate that signs itself, and its key.
    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned()];
        (CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn what_cannot_be_used_is_told_of_once_and_at_its_second_look() {
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
        // What a look leaves: whether what it saw is good, and whether the log has it that
        // it is not; and whether new connections get another certificate from then on.
        let mut look = |is_good: bool, is_told: bool, is_taken_up: bool| {
            let before = Arc::clone(&configs.borrow());
            renewal.look();
            assert_eq!((renewal.is_good, renewal.is_told), (is_good, is_told));
            assert_eq!(!Arc::ptr_eq(&before, &configs.borrow()), is_taken_up);
        };
        look(true, false, false);
        write(&second.0, &first.1);
        look(false, false, false);
        write(&second.0, &second.1);
        look(true, false, true);
        look(true, false, false);
        write(&second.0, &first.1);
        look(false, false, false);
        look(false, true, false);
        look(false, true, false);
        std::fs::remove_file(&files.key).unwrap();
        look(false, false, false);
        look(false, true, false);
        look(false, true, false);
        write(&second.0, &second.1);
        look(true, false, true);
        // As whoever turns back.
        write(&first.0, &first.1);
        look(true, false, true);
    }
}
