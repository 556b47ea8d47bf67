//! TLS at the services' ports: a real client, and certificates that the tests make.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_origin::{
    boot::{self, StartError},
    clock::Clock,
    limits,
    settings::Settings,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use reqwest::Method;
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use crate::support::{
    AUTH_ONLY, App, BOTH, Databases, PASSWORD, Service, Serving, USERS_ONLY, program, settings, write_private,
};

/// Nothing listens on the discard port.
const NO_GATEWAY: &str = "http://127.0.0.1:9";

/// Longer than any interval or time limit of the services, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A certificate authority, and a directory for its certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    folder: tempfile::TempDir,
}

impl Authority {
    fn make() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate, folder: tempfile::tempdir().unwrap() }
    }

    fn certificate_for(&self, key: &KeyPair) -> rcgen::Certificate {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        CertificateParams::new(names).unwrap().signed_by(key, &self.issuer).unwrap()
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        write_private(&path, text);
        path
    }

    /// Writes a certificate and its key into two files.
    fn pair(&self) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let certificate = self.certificate_for(&key).pem();
        (self.file("cert.pem", &certificate), self.file("key.pem", &key.serialize_pem()))
    }

    /// Makes a client that trusts only this authority.
    fn client(&self) -> reqwest::Client {
        let known = reqwest::Certificate::from_der(self.certificate.der()).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([known]).build().unwrap()
    }

    fn connector(&self, versions: &[&'static SupportedProtocolVersion], protocol: &[u8]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    /// Opens a connection and performs the handshake.
    async fn connect(&self, addr: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        self.connector(&[&TLS13], b"http/1.1").connect(name, TcpStream::connect(addr).await?).await
    }

    /// Returns the certificate of an address.
    async fn shown(&self, addr: SocketAddr) -> CertificateDer<'static> {
        let stream = self.connect(addr).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

fn with_tls(mut settings: Settings, (cert, key): &(PathBuf, PathBuf)) -> Settings {
    (settings.tls_cert_file, settings.tls_key_file) = (Some(cert.clone()), Some(key.clone()));
    settings
}

/// Starts both services with TLS, and a client that trusts their certificate.
async fn start(authority: &Authority) -> App {
    let pair = authority.pair();
    let mut app = App::start_with(NO_GATEWAY, |settings| with_tls(settings, &pair)).await;
    (app.scheme, app.http) = ("https", authority.client());
    app
}

fn addr_of(app: &App) -> SocketAddr {
    app.url(Service::Auth, "").strip_prefix("https://").unwrap().parse().unwrap()
}

#[tokio::test]
async fn both_services_use_tls_and_reach_each_other() {
    let authority = Authority::make();
    let mut app = start(&authority).await;
    // A registration calls the user service, a change of the name the auth service.
    let ada = app.person("ada@example.com").await;
    let path = format!("/api/v1/users/{}", ada.id);
    let change = Some(json!({ "first_name": "Augusta" }));
    let changed = app.send(Service::Users, Method::PATCH, &path, Some(&ada), change).await;
    assert_eq!((changed.status, &changed.json()["data"]["first_name"]), (200, &json!("Augusta")), "{}", changed.text);
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/me", &ada).await.status, 200);
    let token = app.service_token(Service::Users).await;
    let internal = app.url(Service::Users, &format!("/api/v1/internal/users/{}", ada.id));
    assert_eq!(app.send_raw(app.internal(Service::Users, Method::GET, &internal, &token)).await.status, 200);
    app.stop().await;
}

#[tokio::test]
async fn only_clients_with_tls_1_2_and_the_right_authority_connect() {
    let authority = Authority::make();
    let app = start(&authority).await;
    let addr = addr_of(&app);
    let name = || ServerName::try_from("localhost").unwrap();
    for version in [&TLS12, &TLS13] {
        let connector = authority.connector(&[version], b"http/1.1");
        let stream = connector.connect(name(), TcpStream::connect(addr).await.unwrap()).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(session.protocol_version(), Some(version.version));
    }
    let http2 = authority.connector(&[&TLS13], b"h2");
    http2.connect(name(), TcpStream::connect(addr).await.unwrap()).await.unwrap_err();
    Authority::make().connect(addr).await.unwrap_err();
    // A client hello of TLS 1.1 with a cipher suite of that version.
    let mut old = TcpStream::connect(addr).await.unwrap();
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    old.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    let _ = old.read_to_end(&mut answer).await;
    assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
}

/// Returns the key inside a PKCS#8 key (RFC 5958): PKCS#1 for RSA, SEC1 for elliptic curves.
fn wrapped(pkcs8: &[u8]) -> Vec<u8> {
    /// Returns the lengths of head and content of the element at the start.
    fn element(der: &[u8]) -> (usize, usize) {
        match der[1] {
            short @ 0..=127 => (2, usize::from(short)),
            long => {
                let bytes = usize::from(long & 0x7f);
                (2 + bytes, der[2..2 + bytes].iter().fold(0, |sum, byte| sum * 256 + usize::from(*byte)))
            }
        }
    }
    let mut rest = &pkcs8[element(pkcs8).0..];
    // The version, and the algorithm.
    for _ in 0..2 {
        let (head, content) = element(rest);
        rest = &rest[head + content..];
    }
    let (head, content) = element(rest);
    rest[head..head + content].to_vec()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[tokio::test]
async fn keys_are_pkcs8_pkcs1_or_sec1_and_chains_are_complete() {
    let authority = Authority::make();
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let curve = KeyPair::generate().unwrap();
    let databases = Databases::make().await;
    for (key, text) in [
        (&curve, curve.serialize_pem()),
        (&curve, pem("EC PRIVATE KEY", &wrapped(curve.serialized_der()))),
        (&rsa, rsa.serialize_pem()),
        (&rsa, pem("RSA PRIVATE KEY", &wrapped(rsa.serialized_der()))),
    ] {
        let chain = format!("{}{}", authority.certificate_for(key).pem(), authority.certificate.pem());
        let pair = (authority.file("cert.pem", &chain), authority.file("key.pem", &text));
        let settings = with_tls(settings(&databases, 0, 0, [1; 32], NO_GATEWAY), &pair);
        let running = boot::start(&settings, BOTH, Clock::default()).await.unwrap();
        let stream = authority.connect(running.auth.unwrap()).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap().len(), 2);
        running.stop().await;
    }
}

#[tokio::test]
async fn an_unusable_certificate_or_key_is_a_wrong_setting() {
    let authority = Authority::make();
    let (cert, key) = authority.pair();
    let other_key = authority.file("other.pem", &KeyPair::generate().unwrap().serialize_pem());
    let secret = authority.file("secret.pem", &pem("ENCRYPTED PRIVATE KEY", b"who knows"));
    let broken = authority.file("broken.pem", &pem("CERTIFICATE", b"no certificate"));
    let nowhere = Path::new("/nowhere/x.pem").to_owned();
    let databases = Databases::make().await;
    let settings = settings(&databases, 0, 0, [1; 32], NO_GATEWAY);
    for (cert, key, texts) in [
        (Some(&cert), None, ["TLS_CERT_FILE", "TLS_KEY_FILE"]),
        (None, Some(&key), ["TLS_KEY_FILE", "TLS_CERT_FILE"]),
        (Some(&nowhere), Some(&key), ["TLS_CERT_FILE /nowhere/x.pem", "cannot be read"]),
        (Some(&cert), Some(&nowhere), ["TLS_KEY_FILE /nowhere/x.pem", "cannot be read"]),
        (Some(&key), Some(&key), ["TLS_CERT_FILE", "holds no certificate"]),
        (Some(&cert), Some(&cert), ["TLS_KEY_FILE", "holds no private key"]),
        (Some(&cert), Some(&secret), ["TLS_KEY_FILE", "without a password"]),
        (Some(&cert), Some(&other_key), ["TLS_KEY_FILE", "is not the key of the first certificate"]),
        (Some(&broken), Some(&key), ["TLS_CERT_FILE", "cannot be used"]),
    ] {
        let mut set = settings.clone();
        (set.tls_cert_file, set.tls_key_file) = (cert.cloned(), key.cloned());
        let fault = boot::start(&set, BOTH, Clock::default()).await.unwrap_err();
        let StartError::Setting(text) = fault else { panic!("{fault:?}") };
        assert!(texts.iter().all(|part| text.contains(part)), "{text}");
    }
    assert!(!databases.folder.path().join("auth.db").exists(), "nothing was opened");
    let settings = with_tls(settings, &(cert, key));
    for (which, text) in [(AUTH_ONLY, "USERS_URL is not set"), (USERS_ONLY, "AUTH_URL is not set")] {
        let fault = boot::start(&settings, which, Clock::default()).await.unwrap_err();
        assert!(matches!(&fault, StartError::Setting(found) if found.starts_with(text)), "{fault:?}");
    }
}

#[tokio::test]
async fn clients_without_tls_are_disconnected() {
    let authority = Authority::make();
    let app = start(&authority).await;
    let addr = addr_of(&app);
    let mut silent = TcpStream::connect(addr).await.unwrap();
    // The first bytes of a handshake that never continues.
    let mut slow = TcpStream::connect(addr).await.unwrap();
    slow.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let mut plain = TcpStream::connect(addr).await.unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1 200"), "{answer:?}");
    // While those two connections are open.
    assert_eq!(app.http.get(app.url(Service::Auth, "/health")).send().await.unwrap().status().as_u16(), 200);
    for stream in [&mut silent, &mut slow] {
        let let_go = tokio::time::timeout(limits::HANDSHAKE_TIME + LONG, stream.read_to_end(&mut Vec::new())).await;
        assert!(let_go.is_ok(), "it is held for ever");
    }
}

#[tokio::test]
async fn a_shutdown_completes_requests_and_drops_handshakes() {
    let authority = Authority::make();
    let mut app = start(&authority).await;
    let addr = addr_of(&app);
    let mut silent = TcpStream::connect(addr).await.unwrap();
    let mut asking = authority.connect(addr).await.unwrap();
    let body = json!({ "email": "ada@example.com", "password": PASSWORD }).to_string();
    let path = "/api/v1/auth/login";
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nx-gateway-assertion: {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        app.assertion(Service::Auth, &Method::POST, path, None),
        body.len()
    );
    asking.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = [0; 64];
    let count = asking.read(&mut buffer).await.unwrap();
    assert!(buffer[..count].starts_with(b"HTTP/1.1 100"), "it waits for the body");
    let finish = async {
        // The disconnection shows that the service received the signal.
        silent.read_to_end(&mut Vec::new()).await.unwrap();
        asking.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        asking.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let begun = std::time::Instant::now();
    let ((), answer) = tokio::join!(app.stop(), finish);
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(begun.elapsed() < limits::HANDSHAKE_TIME, "the silent one was waited for");
}

/// Returns the addresses of a process's services: auth, users.
fn places(serving: &mut Serving) -> (SocketAddr, SocketAddr) {
    let mut place = |service: &str| -> SocketAddr {
        let line: Value = serde_json::from_str(&serving.until("\"message\":\"listening\"")).unwrap();
        assert_eq!(line["service"], service);
        line["addr"].as_str().unwrap().parse().unwrap()
    };
    (place("auth"), place("users"))
}

fn serve_with_tls(databases: &Databases, (cert, key): &(PathBuf, PathBuf)) -> Command {
    let mut command = program(databases, &["serve"]);
    command.env("TLS_CERT_FILE", cert).env("TLS_KEY_FILE", key);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_loaded_if_it_is_valid() {
    let authority = Authority::make();
    let databases = Databases::make().await;
    let pair = authority.pair();
    let mut serving = Serving::start(serve_with_tls(&databases, &pair));
    let (addr, _) = places(&mut serving);
    let first = authority.shown(addr).await;

    let next = KeyPair::generate().unwrap();
    std::fs::write(&pair.1, next.serialize_pem()).unwrap();
    let line = tokio::task::block_in_place(|| serving.until("the renewed certificate cannot be used"));
    assert!(line.contains("is not the key of the first certificate") && line.contains("\"level\":\"ERROR\""), "{line}");
    assert_eq!(authority.shown(addr).await, first);

    // By a new file under the same name, like certbot and Kubernetes.
    let certificate = authority.certificate_for(&next);
    let beside = authority.file("next.pem", &certificate.pem());
    std::fs::rename(beside, &pair.0).unwrap();
    tokio::task::block_in_place(|| serving.until("the renewed certificate is in use"));
    assert_eq!(authority.shown(addr).await, *certificate.der());

    let log = serving.stop();
    assert!(!log.contains("PRIVATE KEY") && !log.contains(&STANDARD.encode(&next.serialized_der()[40..60])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_warns_of_a_public_address_without_tls() {
    let authority = Authority::make();
    let databases = Databases::make().await;
    let pair = authority.pair();
    for (bind, is_tls, is_private, is_warned) in [
        ("0.0.0.0", false, false, true),
        ("0.0.0.0", false, true, false),
        ("0.0.0.0", true, false, false),
        ("127.0.0.1", false, false, false),
    ] {
        let mut command = if is_tls { serve_with_tls(&databases, &pair) } else { program(&databases, &["serve"]) };
        command.env("BIND_ADDR", bind).env("PRIVATE_NETWORK", is_private.to_string());
        let log = tokio::task::block_in_place(|| {
            let mut serving = Serving::start(command);
            places(&mut serving);
            serving.stop()
        });
        assert_eq!(log.contains("unencrypted"), is_warned, "{bind} {is_tls} {is_private}: {log}");
    }
}

/// Runs a gateway with a certificate until a revocation arrives. Returns the number of handshakes that
/// failed before.
async fn gateway(listener: TcpListener, acceptor: TlsAcceptor) -> usize {
    let mut strangers = 0;
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = acceptor.accept(stream).await else {
            strangers += 1;
            continue;
        };
        let mut text = String::new();
        while !text.contains("\"revocations\":[") {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "{text}");
            text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        assert!(text.starts_with("POST /_gateway/revocations HTTP/1.1\r\n"), "{text}");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        return strangers;
    }
}

// Other systems have authorities that no variable replaces.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_are_pushed_over_https_to_a_trusted_gateway() {
    let authority = Authority::make();
    let databases = Databases::make().await;
    let files = authority.pair();
    let known = authority.file("ca.pem", &authority.certificate.pem());
    let strange = Authority::make();
    let strange = strange.file("ca.pem", &strange.certificate.pem());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let edge_url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let config = portcullis_origin::tls::Files { cert: files.0, key: files.1 }.load().unwrap();
    let told = tokio::spawn(gateway(listener, TlsAcceptor::from(config)));
    let start = |databases: &Databases, authorities: &Path| {
        let mut command = program(databases, &["serve"]);
        command.env("EDGE_URL", &edge_url).env("SSL_CERT_FILE", authorities);
        command
    };
    let nothing = tokio::task::block_in_place(|| start(&databases, Path::new("/nowhere")).output().unwrap());
    let text = String::from_utf8(nothing.stderr).unwrap();
    assert_eq!((nothing.status.code(), text.contains("SSL_CERT_FILE")), (Some(2), true), "{text}");

    let mut serving = Serving::start(start(&databases, &strange));
    let (auth, users) = tokio::task::block_in_place(|| places(&mut serving));
    let app = App::connect(databases, auth, users);
    let ada = app.person("ada@example.com").await;
    let out = app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&ada), None).await;
    assert!(out.status < 300, "{}", out.text);
    tokio::task::block_in_place(|| serving.until("the gateway does not answer"));
    tokio::task::block_in_place(|| serving.stop());

    let serving = Serving::start(start(&app.databases, &known));
    let strangers = tokio::time::timeout(LONG, told).await.unwrap().unwrap();
    assert!(strangers > 0, "whoever does not know the authority says nothing");
    tokio::task::block_in_place(|| serving.stop());
}
