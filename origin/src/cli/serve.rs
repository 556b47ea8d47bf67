//! `serve`: runs services until a signal stops them.

use clap::ValueEnum;
use portcullis_origin::{
    boot::{self, EnabledServices, StartError},
    clock::Clock,
    settings::Settings,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Service {
    /// Accounts and tokens.
    Auth,
    /// Profiles.
    Users,
    /// Both, in one process.
    All,
}

pub(super) async fn serve(service: Service, settings: Settings) -> Result<(), StartError> {
    let which = EnabledServices {
        auth: matches!(service, Service::Auth | Service::All),
        users: matches!(service, Service::Users | Service::All),
    };
    // Before the start, so that a signal during the start is handled as well.
    let mut stop = StopSignals::listen()?;
    let running = tokio::select! {
        running = boot::start(&settings, which, Clock::default()) => running?,
        () = stop.received() => {
            tracing::info!("stopped while starting");
            return Ok(());
        }
    };
    stop.received().await;
    tracing::info!("stopping");
    running.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// The signals that stop a process: SIGTERM, and SIGINT of a terminal.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self, StartError> {
        let listen =
            |kind| signal(kind).map_err(|error| StartError::Other(format!("signals cannot be handled: {error}")));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
