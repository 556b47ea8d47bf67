//! `serve`: services until somebody says stop.

use clap::ValueEnum;
use portcullis_origin::{
    boot::{self, BootFault, Which},
    clock::Clock,
    settings::Flags,
};

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Service {
    /// Accounts and tokens.
    Auth,
    /// Profiles.
    Users,
    /// Both, in one process.
    All,
}

pub(super) async fn serve(service: Service, flags: Flags) -> Result<(), BootFault> {
    let which = Which {
        auth: matches!(service, Service::Auth | Service::All),
        users: matches!(service, Service::Users | Service::All),
    };
    let running = boot::start(&flags, which, Clock::default()).await?;
    until_told_to_stop().await;
    tracing::info!("stopping");
    running.stop().await;
    tracing::info!("stopped");
    Ok(())
}

async fn until_told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
