//! Deletes old rows: some at a time, so that requests do not wait long for the database, and only
//! while the clock runs evenly, because a clock that jumps ahead must not end live sessions.

use tokio::sync::watch;

use super::Auth;
use crate::{clock::ClockWatch, limits, store::with_timeout};

/// Deletes old rows from time to time until `stopped` turns true.
pub async fn clean_up(auth: Auth, mut stopped: watch::Receiver<bool>) {
    let rounds = async {
        let mut erased = 0;
        loop {
            let mut watch = ClockWatch::start(&auth.clock);
            tokio::time::sleep(limits::CLOCK_WATCH).await;
            match watch.trusted(&auth.clock) {
                Some(now) => delete_old(&auth, now, &mut erased).await,
                None => tracing::warn!("the clock jumped; old rows are deleted once it runs evenly"),
            }
            tokio::time::sleep(limits::SWEEP).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

/// Deletes all rows that are old at `now`. `erased` is the last event that was examined in a round that
/// failed: the next one continues there, so that one slow batch does not keep it from later events.
async fn delete_old(auth: &Auth, now: i64, erased: &mut i64) {
    let over = now.saturating_sub(limits::SWEEP_MARGIN_MS);
    for (what, before) in [
        (Old::Sessions, over),
        (Old::Guesses, over),
        (Old::Outbox, over),
        (Old::ApiKeys, over),
        (Old::Events, now.saturating_sub(limits::AUDIT_MS)),
    ] {
        delete_in_batches(auth, what, before).await;
    }
    let before = now.saturating_sub(limits::AUDIT_IDENTITY_MS);
    loop {
        match with_timeout(auth.audit.erase(*erased, before, limits::SWEEP_ROWS)).await {
            Ok(Some(last)) => *erased = last,
            // From the first event again: an account may have been deleted since.
            Ok(None) => return *erased = 0,
            Err(error) => return auth.metrics.database_error(&error),
        }
        tokio::time::sleep(limits::SWEEP_PAUSE).await;
    }
}

/// Kinds of rows that are deleted.
#[derive(Debug, Clone, Copy)]
enum Old {
    Sessions,
    Guesses,
    Outbox,
    ApiKeys,
    Events,
}

/// Deletes batch after batch until one is not full.
async fn delete_in_batches(auth: &Auth, what: Old, before: i64) {
    let rows = limits::SWEEP_ROWS;
    let full = u64::try_from(rows).unwrap_or(u64::MAX);
    loop {
        let deleted = match what {
            Old::Sessions => with_timeout(auth.sessions.sweep(before, rows)).await,
            Old::Guesses => with_timeout(auth.login_failures.sweep(before, rows)).await,
            Old::Outbox => with_timeout(auth.outbox.sweep(before, rows)).await,
            Old::ApiKeys => with_timeout(auth.api_keys.sweep(before, rows)).await,
            Old::Events => with_timeout(auth.audit.sweep(before, rows)).await,
        };
        match deleted {
            Ok(count) if count < full => return,
            Ok(_) => tokio::time::sleep(limits::SWEEP_PAUSE).await,
            Err(error) => return auth.metrics.database_error(&error),
        }
    }
}
