//! The services as processes of their own.

use std::{
    net::{SocketAddr, TcpListener},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::support::{
    app::{ASSERTION_SECRET, AUTH_SECRET, App, USERS_SECRET},
    databases::{Databases, Service},
};

pub(crate) const MASTER: [u8; 32] = [1; 32];

/// Returns a free port for a service that other processes must find. It is below the range from which
/// the system gives ports to connections, so that no connection takes it before the service starts.
pub(crate) fn port() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let offset = std::process::id().wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let port = u16::try_from(20_000 + offset).unwrap();
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap();
        }
    }
}

/// A service in its own process.
pub(crate) struct Process {
    pub(crate) name: &'static str,
    pub(crate) child: Child,
}

/// The environment of service processes, and their output.
pub(crate) struct Deployment {
    /// Settings besides those that every test needs.
    pub(crate) settings: Vec<(&'static str, String)>,
    folder: String,
    pub(crate) auth: SocketAddr,
    pub(crate) users: SocketAddr,
    pub(crate) lines: Arc<Mutex<Vec<String>>>,
}

impl Deployment {
    pub(crate) fn of(databases: &Databases) -> Self {
        Self {
            settings: vec![
                ("AUTH_DATABASE_URL", databases.url(Service::Auth)),
                ("USERS_DATABASE_URL", databases.url(Service::Users)),
            ],
            folder: databases.folder.path().display().to_string(),
            auth: port(),
            users: port(),
            lines: Arc::default(),
        }
    }

    pub(crate) fn start(&self, name: &'static str) -> Process {
        let secret = format!("k1:{}", URL_SAFE_NO_PAD.encode(ASSERTION_SECRET));
        let (auth, users) = (self.auth.port().to_string(), self.users.port().to_string());
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis-origin"))
            .args(["serve", name])
            .env("DATA_DIR", &self.folder)
            .env("AUTH_PORT", auth)
            .env("USERS_PORT", users)
            .env("EDGE_URL", "http://127.0.0.1:9")
            .env("MASTER_KEY", URL_SAFE_NO_PAD.encode(MASTER))
            .env("ASSERTION_KEYS_AUTH", &secret)
            .env("ASSERTION_KEYS_USERS", &secret)
            .env("SERVICE_SECRET_AUTH_SERVICE", AUTH_SECRET)
            .env("SERVICE_SECRET_USER_SERVICE", USERS_SECRET)
            .envs(self.settings.iter().map(|(name, value)| (*name, value.as_str())))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let lines = Arc::clone(&self.lines);
        tokio::spawn(async move {
            let (mut out, mut err) = (BufReader::new(out).lines(), BufReader::new(err).lines());
            loop {
                let line = tokio::select! {
                    Ok(Some(line)) = out.next_line() => line,
                    Ok(Some(line)) = err.next_line() => line,
                    else => return,
                };
                lines.lock().unwrap().push(line);
            }
        });
        Process { name, child }
    }

    /// Returns how many log lines contain a text.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits for further log lines with a text.
    pub(crate) async fn until_logged(&self, text: &str, count: usize) {
        for _ in 0..1200 {
            if self.logged(text) >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the log does not contain {text:?}:\n{}", self.lines.lock().unwrap().join("\n"));
    }
}

/// Waits until a service is ready. Starts a process again if it ended, because another connection may
/// have its port for a moment.
pub(crate) async fn until_ready(app: &App, place: &Deployment, process: &mut Process) {
    let service = if process.name == "auth" { Service::Auth } else { Service::Users };
    let url = app.url(service, "/ready");
    for _ in 0..1200 {
        if process.child.try_wait().unwrap().is_some() {
            *process = place.start(process.name);
        }
        if app.http.get(&url).send().await.is_ok_and(|answer| answer.status() == 200) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let lines = place.lines.lock().unwrap();
    panic!("{service:?} is not ready again:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"));
}
