//! `serve`: services until somebody says stop.

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
    // From the first moment on: who is told to stop while it starts ends well, too.
    let mut told = Stop::listen()?;
    let running = tokio::select! {
        running = boot::start(&settings, which, Clock::default()) => running?,
        () = told.come() => {
            tracing::info!("stopped while starting");
            return Ok(());
        }
    };
    told.come().await;
    tracing::info!("stopping");
    running.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// What tells a process to stop: SIGTERM, or SIGINT of a terminal.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> Result<Self, StartError> {
        let listen =
            |kind| signal(kind).map_err(|error| StartError::Other(format!("signals cannot be listened to: {error}")));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn come(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
