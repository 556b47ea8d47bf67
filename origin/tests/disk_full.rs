//! A disk that is full for a while: the answers meanwhile, and the recovery without a restart. The disk
//! is a file system in memory.

use std::{path::Path, process::Command, time::Duration};

use reqwest::Method;
use tempfile::TempDir;

use crate::support::{App, Service};

/// Size of the file system: both databases and a little more.
const DISK: &str = "size=6m";

/// A mounted file system, which is unmounted when the value is dropped.
struct Disk(std::path::PathBuf);

impl Disk {
    /// `None` if this process may not mount.
    fn mount(at: &Path) -> Option<Self> {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(at).output().ok()?;
        done.status.success().then(|| Self(at.to_owned()))
    }

    /// Fills the disk completely.
    fn fill(&self) {
        let block = vec![0_u8; 4096];
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

async fn ready(app: &App, service: Service) -> u16 {
    app.send_raw(app.http.request(Method::GET, app.url(service, "/ready"))).await.status
}

/// Starts services on a disk of their own; `None` if that is not possible.
async fn start() -> Option<(App, Disk)> {
    let probe = TempDir::new().unwrap();
    if Disk::mount(probe.path()).is_none() {
        eprintln!("skipped: this process may not mount a file system");
        return None;
    }
    let mut disk = None;
    let app = App::start_with("http://127.0.0.1:9", |settings| {
        disk = Disk::mount(&settings.data_dir);
        settings
    })
    .await;
    if !app.databases.is_sqlite() {
        eprintln!("skipped: PostgreSQL's disk is its own");
        return None;
    }
    Some((app, disk.unwrap()))
}

#[tokio::test]
async fn after_a_full_disk_logins_succeed_without_a_restart() {
    let Some((mut app, disk)) = start().await else { return };
    app.person("ada@example.com").await;
    for service in [Service::Auth, Service::Users] {
        assert_eq!(ready(&app, service).await, 200);
    }
    disk.fill();
    let mut refused = 0;
    // More requests than connections, until the space of the write-ahead log is used up.
    for _ in 0..200 {
        let login = app.login("ada@example.com").await;
        assert!(matches!(login.status, 200 | 503), "{}", login.text);
        refused += usize::from(login.status == 503);
        if refused == 20 {
            break;
        }
    }
    assert_eq!(refused, 20, "the disk is not full");
    // Readiness is cached for a moment.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while ready(&app, Service::Auth).await != 503 {
        assert!(std::time::Instant::now() < deadline, "ready on a full disk");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    disk.free();
    let begun = std::time::Instant::now();
    for number in 0..20 {
        let login = app.login("ada@example.com").await;
        assert_eq!(login.status, 200, "login {number}: {}", login.text);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for service in [Service::Auth, Service::Users] {
        while ready(&app, service).await != 200 {
            assert!(begun.elapsed() < Duration::from_secs(10), "{service:?} is not ready");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn after_a_full_disk_registrations_and_profiles_succeed_without_a_restart() {
    let Some((mut app, disk)) = start().await else { return };
    let ada = app.person("ada@example.com").await;
    disk.fill();
    let mut refused = 0;
    for number in 0..200 {
        let target = format!("/api/v1/users/{}", ada.id);
        let body = serde_json::json!({ "first_name": format!("Ada {number}") });
        let changed = app.send(Service::Users, Method::PATCH, &target, Some(&ada), Some(body)).await;
        refused += usize::from(changed.status == 503);
        if refused == 20 {
            break;
        }
    }
    assert_eq!(refused, 20, "the disk is not full");
    disk.free();
    for number in 0..20 {
        let registered = app.register(&format!("person{number}@example.com")).await;
        assert_eq!(registered.status, 201, "registration {number}: {}", registered.text);
    }
    app.stop().await;
}
