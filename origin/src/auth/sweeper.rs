//! Forgets what is old, some rows at a time, so that nobody waits long for the database
//! meanwhile, and only while the clock can be believed: one that is ahead for seconds must
//! not end a session that lives.

use std::time::Instant;

use tokio::sync::watch;

use super::Auth;
use crate::{clock::Clock, limits, store::with_timeout};

/// What both clocks show at one moment: the host's, which may be set, and one that nobody sets.
#[derive(Debug, Clone, Copy)]
struct Reading {
    millis: i64,
    steady: Instant,
}

impl Reading {
    fn take(clock: &Clock) -> Self {
        Self { millis: clock.now(), steady: Instant::now() }
    }

    /// The instant of this reading, if a later one says that the host's clock went on as the
    /// steady one did.
    fn believed(self, later: Self) -> Option<i64> {
        let steady = i64::try_from(later.steady.saturating_duration_since(self.steady).as_millis()).ok()?;
        let gained = later.millis.saturating_sub(self.millis).saturating_sub(steady);
        (gained.abs() <= limits::SWEEP_SLEW_MS).then(|| self.millis.min(later.millis))
    }
}

/// Sweeps now and then until `stopped` turns true.
pub async fn sweep(auth: Auth, mut stopped: watch::Receiver<bool>) {
    let rounds = async {
        loop {
            let before = Reading::take(&auth.clock);
            tokio::time::sleep(limits::SWEEP_WATCH).await;
            match before.believed(Reading::take(&auth.clock)) {
                Some(now) => forget(&auth, now).await,
                None => tracing::warn!("the clock leapt; nothing old is deleted until it goes on evenly"),
            }
            tokio::time::sleep(limits::SWEEP).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

/// Forgets all that is old at `now`.
async fn forget(auth: &Auth, now: i64) {
    let over = now.saturating_sub(limits::SWEEP_MARGIN_MS);
    for (what, before) in [
        (Old::Sessions, over),
        (Old::Guesses, over),
        (Old::Outbox, over),
        (Old::Events, now.saturating_sub(limits::AUDIT_MS)),
    ] {
        portions(auth, what, before).await;
    }
    let before = now.saturating_sub(limits::AUDIT_IDENTITY_MS);
    let mut after = 0;
    loop {
        match with_timeout(auth.audit.erase(after, before, limits::SWEEP_ROWS)).await {
            Ok(Some(last)) => after = last,
            Ok(None) => return,
            Err(error) => return auth.metrics.database_error(&error),
        }
        tokio::time::sleep(limits::SWEEP_PAUSE).await;
    }
}

/// What gets old.
#[derive(Debug, Clone, Copy)]
enum Old {
    Sessions,
    Guesses,
    Outbox,
    Events,
}

/// Deletes portion after portion, until one is not full.
async fn portions(auth: &Auth, what: Old, before: i64) {
    let rows = limits::SWEEP_ROWS;
    let full = u64::try_from(rows).unwrap_or(u64::MAX);
    loop {
        let deleted = match what {
            Old::Sessions => with_timeout(auth.sessions.sweep(before, rows)).await,
            Old::Guesses => with_timeout(auth.login_failures.sweep(before, rows)).await,
            Old::Outbox => with_timeout(auth.outbox.sweep(before, rows)).await,
            Old::Events => with_timeout(auth.audit.sweep(before, rows)).await,
        };
        match deleted {
            Ok(count) if count < full => return,
            Ok(_) => tokio::time::sleep(limits::SWEEP_PAUSE).await,
            Err(error) => return auth.metrics.database_error(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_is_believed_while_it_goes_on_as_a_steady_one_does() {
        let steady = Instant::now();
        let minute = 60_000;
        // The host's clock after a minute, from the first reading on.
        for (gained, is_believed) in [
            (0, true),
            (limits::SWEEP_SLEW_MS, true),
            (-limits::SWEEP_SLEW_MS, true),
            (limits::SWEEP_SLEW_MS + 1, false),
            (-limits::SWEEP_SLEW_MS - 1, false),
            (8 * 24 * 3_600_000, false),
            (-8 * 24 * 3_600_000, false),
        ] {
            let first = Reading { millis: 1_800_000_000_000, steady };
            let later =
                Reading { millis: first.millis + minute + gained, steady: steady + Duration::from_millis(60_000) };
            assert_eq!(first.believed(later), is_believed.then_some(first.millis), "{gained}");
        }
    }
}
