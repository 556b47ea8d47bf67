//! Bounds of settings.

use portcullis_origin::{boot, clock::Clock};

use crate::support::{BOTH, Databases, settings};

#[tokio::test]
async fn the_data_directory_is_created_for_sqlite_alone() {
    let databases = Databases::make().await;
    let mut settings = settings(&databases, 0, 0, [1; 32], "http://127.0.0.1:9");
    let parent = tempfile::tempdir().unwrap();
    settings.data_dir = parent.path().join("data");
    for (url, is_created) in [("postgres://127.0.0.1/auth", false), ("sqlite://data/auth.db", true)] {
        settings.create_data_dir(url).unwrap();
        assert_eq!(settings.data_dir.exists(), is_created, "{url}");
    }
}

#[tokio::test]
async fn settings_of_sessions_have_bounds() {
    for (reuse_s, days, reason) in [
        (-1, 90, "REFRESH_REUSE_S is -1; set it to 0 to 60 seconds"),
        (61, 90, "REFRESH_REUSE_S is 61"),
        (10, 0, "SESSION_MAX_DAYS is 0; set it to 1 to 3650 days"),
        (10, 3651, "SESSION_MAX_DAYS is 3651"),
    ] {
        let databases = Databases::make().await;
        let mut settings = settings(&databases, 0, 0, [1; 32], "http://127.0.0.1:9");
        (settings.refresh_reuse_s, settings.session_max_days) = (reuse_s, days);
        let fault = boot::start(&settings, BOTH, Clock::default()).await.unwrap_err();
        assert!(fault.to_string().contains(reason), "{fault}");
    }
}
