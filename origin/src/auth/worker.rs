//! Background work that is repeated: on demand, at an interval, and with exponential back-off
//! while it fails.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::{Notify, watch};

/// When a job runs again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// Time between two runs that nothing asked for.
    pub(super) interval: Duration,
    /// Pause after the first failure; it doubles with each further one.
    pub(super) back_off: Duration,
    /// The longest such pause.
    pub(super) back_off_max: Duration,
}

/// One kind of background work.
pub(super) trait Job: Sync {
    /// What a successful run reports.
    type Done: Send;
    /// Why a run failed.
    type Fault: Send;

    /// Does all the work that is due. It may be cancelled at any await point.
    fn run(&self) -> impl Future<Output = Result<Self::Done, Self::Fault>> + Send;

    /// Logs a failed run. `is_first` is false for the failures that follow in a row.
    fn log_failure(&self, fault: Self::Fault, is_first: bool);

    /// Logs the first success after failures.
    fn log_recovery(&self, done: Self::Done);
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
    pub(super) async fn run(&self, job: &impl Job, mut stopped: watch::Receiver<bool>) {
        let mut failing: Option<ExponentialBackoff> = None;
        loop {
            let outcome = tokio::select! {
                outcome = job.run() => outcome,
                _ = stopped.wait_for(|stopped| *stopped) => return,
            };
            let pause = match outcome {
                Ok(done) => {
                    if failing.take().is_some() {
                        job.log_recovery(done);
                    }
                    self.schedule.interval
                }
                Err(fault) => {
                    job.log_failure(fault, failing.is_none());
                    let pauses = failing.get_or_insert_with(|| self.schedule.pauses());
                    pauses.next().unwrap_or(self.schedule.back_off_max)
                }
            };
            tokio::select! {
                () = self.wake_ups.notified(), if failing.is_none() => {}
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }
}

impl Schedule {
    fn pauses(self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(self.back_off)
            .with_max_delay(self.back_off_max)
            .without_max_times()
            .with_jitter()
            .build()
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

    const SCHEDULE: Schedule = Schedule {
        interval: Duration::from_secs(60),
        back_off: Duration::from_secs(1),
        back_off_max: Duration::from_secs(4),
    };

    /// Notes the time of each run and what is logged.
    struct Recorder {
        begun: Instant,
        is_failing: AtomicBool,
        runs: Mutex<Vec<u64>>,
        log: Mutex<Vec<&'static str>>,
    }

    impl Job for Recorder {
        type Done = ();
        type Fault = ();

        async fn run(&self) -> Result<(), ()> {
            self.runs.lock().unwrap().push(self.begun.elapsed().as_secs());
            if self.is_failing.load(Ordering::Relaxed) { Err(()) } else { Ok(()) }
        }

        fn log_failure(&self, (): (), is_first: bool) {
            self.log.lock().unwrap().push(if is_first { "failed" } else { "failed again" });
        }

        fn log_recovery(&self, (): ()) {
            self.log.lock().unwrap().push("recovered");
        }
    }

    /// Runs a job for a while; `during` may wake the worker and change what the job does.
    async fn watch(is_failing: bool, during: impl AsyncFnOnce(&Worker, &Recorder)) -> (Vec<u64>, Vec<&'static str>) {
        let worker = Arc::new(Worker::new(SCHEDULE));
        let job = Arc::new(Recorder {
            begun: Instant::now(),
            is_failing: AtomicBool::new(is_failing),
            runs: Mutex::default(),
            log: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn({
            let (worker, job) = (Arc::clone(&worker), Arc::clone(&job));
            async move { worker.run(&*job, stopped).await }
        });
        during(&worker, &job).await;
        stop.send(true).unwrap();
        task.await.unwrap();
        let (runs, log) = (job.runs.lock().unwrap().clone(), job.log.lock().unwrap().clone());
        (runs, log)
    }

    async fn sleep(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_runs_at_its_interval_and_at_once_when_it_is_woken() {
        let (runs, log) = watch(false, async |worker, _| {
            sleep(70).await;
            worker.wake();
            sleep(10).await;
        })
        .await;
        assert_eq!(runs, [0, 60, 70]);
        assert!(log.is_empty(), "{log:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_job_backs_off_whether_it_is_woken_or_not_and_logs_its_recovery() {
        let (runs, log) = watch(true, async |worker, job| {
            for _ in 0..30 {
                worker.wake();
                sleep(1).await;
            }
            job.is_failing.store(false, Ordering::Relaxed);
            sleep(20).await;
        })
        .await;
        let failures = log.iter().filter(|entry| entry.starts_with("failed")).count();
        assert!((5..=12).contains(&failures), "{runs:?}");
        assert_eq!(log.first(), Some(&"failed"));
        assert!(log.get(1..failures).unwrap().iter().all(|entry| *entry == "failed again"), "{log:?}");
        assert_eq!(log.get(failures..), Some(&["recovered"][..]), "{log:?}");
    }
}
