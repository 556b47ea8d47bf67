//! Background work that is repeated: on demand, at an interval, and with exponential back-off
//! while it fails.

use std::time::Duration;

use portcullis_resilience::{Backoff, equal_jitter};
use tokio::sync::{Notify, watch};

/// When a job runs again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// Time between two runs that nothing asked for.
    pub(super) interval: Duration,
    /// Pauses after failures in a row.
    pub(super) back_off: Backoff,
}

/// The work that is left waits for the back-off. The job has logged why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed;

/// One kind of background work.
pub(super) trait Job: Send {
    /// Does all the work that is due. It may be cancelled at any await point.
    fn run(&mut self) -> impl Future<Output = Result<(), Failed>> + Send;
}

/// Runs a job until the process stops.
#[derive(Debug)]
pub(super) struct Worker {
    schedule: Schedule,
    wake_ups: Notify,
}

impl Worker {
    pub(super) fn new(schedule: Schedule) -> Self {
        Self { schedule, wake_ups: Notify::new() }
    }

    /// Runs the job now instead of at the next interval. While the job fails, the back-off
    /// stays as it is: more work is no reason to ask a failing service more often.
    pub(super) fn wake(&self) {
        self.wake_ups.notify_one();
    }

    /// Runs the job again and again until `stopped` turns true.
    pub(super) async fn run(&self, mut job: impl Job, mut stopped: watch::Receiver<bool>) {
        let mut failures = 0_u32;
        loop {
            let outcome = tokio::select! {
                outcome = job.run() => outcome,
                _ = stopped.wait_for(|stopped| *stopped) => return,
            };
            failures = if outcome.is_ok() { 0 } else { failures.saturating_add(1) };
            let pause = match failures {
                0 => self.schedule.interval,
                _ => {
                    let delay_ms = self.schedule.back_off.delay_ms(failures);
                    Duration::from_millis(equal_jitter(delay_ms, fastrand::u32(..)))
                }
            };
            tokio::select! {
                () = self.wake_ups.notified(), if failures == 0 => {}
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    };

    use tokio::time::Instant;

    use super::*;

    const SCHEDULE: Schedule =
        Schedule { interval: Duration::from_secs(60), back_off: Backoff { first_ms: 1_000, longest_ms: 4_000 } };

    /// Notes the time of each run.
    struct Recorder {
        begun: Instant,
        is_failing: AtomicBool,
        runs: Mutex<Vec<Duration>>,
    }

    impl Job for Arc<Recorder> {
        async fn run(&mut self) -> Result<(), Failed> {
            self.runs.lock().unwrap().push(self.begun.elapsed());
            if self.is_failing.load(Ordering::Relaxed) { Err(Failed) } else { Ok(()) }
        }
    }

    /// Runs a job for a while; `during` may wake the worker and change what the job does. Returns the
    /// times of the runs.
    async fn watch(is_failing: bool, during: impl AsyncFnOnce(&Worker, &Recorder)) -> Vec<Duration> {
        let worker = Arc::new(Worker::new(SCHEDULE));
        let job = Arc::new(Recorder {
            begun: Instant::now(),
            is_failing: AtomicBool::new(is_failing),
            runs: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn({
            let (worker, job) = (Arc::clone(&worker), Arc::clone(&job));
            async move { worker.run(job, stopped).await }
        });
        during(&worker, &job).await;
        stop.send(true).unwrap();
        task.await.unwrap();
        job.runs.lock().unwrap().clone()
    }

    async fn sleep(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_runs_at_its_interval_and_at_once_when_it_is_woken() {
        let runs = watch(false, async |worker, _| {
            sleep(70).await;
            worker.wake();
            sleep(10).await;
        })
        .await;
        assert_eq!(runs.iter().map(Duration::as_secs).collect::<Vec<_>>(), [0, 60, 70]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_job_backs_off_up_to_the_longest_pause_whether_it_is_woken_or_not() {
        let mut failures = 0;
        let runs = watch(true, async |worker, job| {
            for _ in 0..300 {
                worker.wake();
                sleep(1).await;
            }
            failures = job.runs.lock().unwrap().len();
            job.is_failing.store(false, Ordering::Relaxed);
            sleep(4).await;
            worker.wake();
            sleep(1).await;
        })
        .await;
        let pauses: Vec<_> = runs.iter().zip(runs.iter().skip(1)).map(|(one, next)| *next - *one).collect();
        for (index, pause) in pauses.iter().enumerate().take(failures) {
            let whole = Duration::from_secs([1, 2].get(index).copied().unwrap_or(4));
            assert!(*pause >= whole / 2 && *pause <= whole + Duration::from_millis(1), "{index}: {pauses:?}");
        }
        // The first run that succeeds, the wake-up of before, and the one after it.
        assert!(runs.len() - failures >= 2, "{runs:?} after {failures}");
    }
}
