//! Bounds of settings.

use portcullis_origin::{boot, clock::Clock};

use crate::support::{BOTH, Databases, settings};

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
