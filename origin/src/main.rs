//! The command line of the origin: `serve`, `migrate`, `keys`, `admin create`. Reads
//! settings, prints one sentence when something is wrong with them, and leaves
//! the work to the library.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use portcullis_client::secret::Secret;
use portcullis_origin::{
    auth::{Created, Keyring, KeyringFault, create_admin},
    boot::{self, BootFault, Which},
    clock::{Clock, rfc3339},
    settings::{Flags, Secrets},
    store::{Database, Schema, SigningKeys},
};
use tracing_subscriber::{filter::LevelFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// The services behind the gate: accounts and tokens (auth), profiles (users).
///
/// Secrets come from the environment alone: MASTER_KEY or MASTER_KEY_FILE,
/// MASTER_KEY_OLD or MASTER_KEY_OLD_FILE (the key that MASTER_KEY replaces, for one start),
/// ASSERTION_KEYS_AUTH, ASSERTION_KEYS_USERS, SERVICE_SECRET_AUTH_SERVICE,
/// SERVICE_SECRET_USER_SERVICE.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Least level that is logged.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", global = true)]
    log_level: LevelFilter,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run services until SIGTERM or Ctrl-C, then finish what is under way.
    Serve {
        /// Which services.
        #[arg(default_value = "all")]
        service: Service,
        #[command(flatten)]
        flags: Box<Flags>,
    },
    /// Bring both databases up to date and exit.
    Migrate {
        #[command(flatten)]
        flags: Box<Flags>,
    },
    /// Signing keys.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Administrators.
    Admin {
        #[command(subcommand)]
        command: AdminCommand,
    },
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List the keys that are published, with the instants of their lives.
    List {
        #[command(flatten)]
        flags: Box<Flags>,
    },
    /// Publish a new key, which signs once everybody has had time to see it. Running
    /// services take it up within seconds. Needs MASTER_KEY or MASTER_KEY_FILE.
    Rotate {
        #[command(flatten)]
        flags: Box<Flags>,
    },
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Make an administrator. To be run where the databases are.
    Create {
        /// E-mail address.
        #[arg(long)]
        email: String,
        /// File whose first line is the password; - reads standard input.
        #[arg(long)]
        password_file: PathBuf,
        /// Make an existing account an administrator; its password stays.
        #[arg(long)]
        promote: bool,
        #[command(flatten)]
        flags: Box<Flags>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Service {
    /// Accounts and tokens.
    Auth,
    /// Profiles.
    Users,
    /// Both, in one process.
    All,
}

/// Exit codes: a setting is wrong, a port is taken, anything else.
const EXIT_SETTING: u8 = 2;
const EXIT_PORT: u8 = 3;
const EXIT_OTHER: u8 = 1;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let layer =
        fmt::layer().json().flatten_event(true).with_target(false).with_current_span(false).with_span_list(false);
    tracing_subscriber::registry().with(cli.log_level).with(layer).init();
    let result = match cli.command {
        Command::Serve { service, flags } => serve(service, flags.with_secrets(Secrets::from_env())).await,
        Command::Migrate { flags } => migrate(&flags).await,
        Command::Keys { command: KeysCommand::List { flags } } => list_keys(&flags).await,
        Command::Keys { command: KeysCommand::Rotate { flags } } => {
            rotate_keys(&flags.with_secrets(Secrets::from_env())).await
        }
        Command::Admin { command: AdminCommand::Create { email, password_file, promote, flags } } => {
            admin(&flags, &email, &password_file, promote).await
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            let _ = writeln!(std::io::stderr(), "portcullis-origin: {fault}");
            ExitCode::from(match fault {
                BootFault::Setting(_) => EXIT_SETTING,
                BootFault::Port(_) => EXIT_PORT,
                BootFault::Other(_) => EXIT_OTHER,
            })
        }
    }
}

async fn serve(service: Service, flags: Flags) -> Result<(), BootFault> {
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

async fn open_both(flags: &Flags) -> Result<(Database, Database), BootFault> {
    flags.check_databases()?;
    flags.make_folder()?;
    let failed = |error: sqlx::Error| BootFault::Other(format!("a database cannot be opened: {error}"));
    let auth = Database::open(&flags.auth_database(), Schema::Auth).await.map_err(failed)?;
    let users = Database::open(&flags.users_database(), Schema::Users).await.map_err(failed)?;
    Ok((auth, users))
}

async fn migrate(flags: &Flags) -> Result<(), BootFault> {
    open_both(flags).await.map(|_| say("both databases are up to date"))
}

async fn open_keys(flags: &Flags) -> Result<SigningKeys, BootFault> {
    flags.make_folder()?;
    let database = Database::open(&flags.auth_database(), Schema::Auth).await;
    database.map(SigningKeys).map_err(|error| BootFault::Other(format!("the database cannot be opened: {error}")))
}

async fn list_keys(flags: &Flags) -> Result<(), BootFault> {
    let now = Clock::default().now();
    let keys = open_keys(flags).await?.published(now).await;
    let keys = keys.map_err(|error| BootFault::Other(format!("the keys cannot be read: {error}")))?;
    say(&format!("{:<43}  {:<24}  {:<24}", "kid", "signs from", "published until"));
    for key in keys {
        let until = key.published_until.map_or_else(|| "-".to_owned(), rfc3339);
        say(&format!("{:<43}  {:<24}  {until:<24}", key.kid, rfc3339(key.signs_from)));
    }
    Ok(())
}

async fn rotate_keys(flags: &Flags) -> Result<(), BootFault> {
    let master = flags.master_key()?;
    let (store, now) = (open_keys(flags).await?, Clock::default().now());
    let other = |fault: KeyringFault| BootFault::Other(fault.to_string());
    let keyring = Keyring::open(store, master, flags.key_lead_ms()?, now).await.map_err(other)?;
    let rotated = keyring.rotate(now).await.map_err(other)?;
    say(&format!(
        "{} signs from {}; until then {} does",
        rotated.kid,
        rfc3339(rotated.signs_from),
        rotated.previous_kid
    ));
    Ok(())
}

async fn admin(flags: &Flags, email: &str, password_file: &Path, promote: bool) -> Result<(), BootFault> {
    let password = read_password(password_file)?;
    let (auth, users) = open_both(flags).await?;
    match create_admin(auth, users, email, &password, promote, &Clock::default()).await.map_err(BootFault::Other)? {
        Created::New(id) => say(&format!("made administrator {id}")),
        Created::Promoted(id) => say(&format!("user {id} is an administrator now; the password is what it was")),
    }
    Ok(())
}

fn read_password(file: &Path) -> Result<Secret, BootFault> {
    let failed = |error| BootFault::Setting(format!("the password cannot be read from {}: {error}", file.display()));
    let mut text = String::new();
    if file.as_os_str() == "-" {
        // A password has 128 characters at most; what is longer is another file.
        std::io::stdin().take(4096).read_to_string(&mut text).map_err(failed)?;
    } else {
        std::fs::File::open(file).and_then(|file| file.take(4096).read_to_string(&mut text)).map_err(failed)?;
    }
    Ok(Secret::new(text.lines().next().unwrap_or_default().to_owned()))
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
