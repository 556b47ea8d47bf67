//! The command line. A wrong setting ends in one sentence that names the correction.
//!
//! A command prints its result to standard output, as text or, with `--json`, as one document, and
//! everything else to standard error. Only `serve` logs to standard output.

mod admin;
mod api_key;
mod backup;
mod health;
mod keys;
mod openapi;
mod output;
mod serve;
mod service;

use std::{ffi::OsStr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use portcullis_origin::{
    auth::record_command,
    boot::StartError,
    clock::Clock,
    settings::{Secrets, Settings},
    store::{AuditLog, Database, Schema, describe_open_error},
};
use serde_json::json;
use tracing_subscriber::{
    Layer as _, filter::LevelFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use output::Output;

/// The services behind the gateway: accounts and tokens (auth), profiles (users).
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Secrets are read only from the environment, which a process list does not show:
  MASTER_KEY or MASTER_KEY_FILE    encrypts the signing keys at rest
  MASTER_KEY_OLD, …_OLD_FILE       the previous master key, for one start
  ASSERTION_KEYS_AUTH, …_USERS     shared with the gateway, one for each service
  SERVICE_SECRET_AUTH_SERVICE, SERVICE_SECRET_USER_SERVICE
  METRICS_TOKEN                    required by /metrics if it is set
                                   each of these also as …_FILE, a private file
  ADMIN_EMAIL with ADMIN_PASSWORD or ADMIN_PASSWORD_FILE
                                   the first administrator, created if there is none

Examples:
  portcullis-origin serve                        both services, data in .data
  portcullis-origin serve auth --auth-port 9000
  portcullis-origin admin create --email ada@example.com
  portcullis-origin service add billing --audience user-service
  portcullis-origin api-key create ci --owner ID --scope deploy

Exit codes: 0 success, 1 failure, 2 wrong setting or argument, 3 port in use."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print the result as one JSON document, and an error as one JSON object on standard error.
    #[arg(long, global = true)]
    json: bool,
    /// Minimum level of log messages [default: info for serve, else warn; off with --json].
    #[arg(long, env = "LOG_LEVEL", global = true)]
    log_level: Option<LevelFilter>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run services until SIGTERM or Ctrl-C, then complete requests in progress.
    #[command(after_help = "\
The log is JSON, one line for each request. A service is ready when it logs \"listening\";
until then /health answers 200 and everything else 503.

Examples:
  portcullis-origin serve
  AUTH_DATABASE_URL=postgres://db/auth portcullis-origin serve auth")]
    Serve {
        /// The services to run.
        #[arg(default_value = "all")]
        service: serve::Service,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Ask the services that run with these settings on this machine whether they are ready.
    #[command(after_help = "\
For the health check of a container, which needs no other program. The exit code is 0 if they
are ready, and 1 if not.

Example:
  portcullis-origin health auth")]
    Health {
        /// The services to ask.
        #[arg(default_value = "all")]
        service: serve::Service,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Apply the migrations of both databases and exit.
    #[command(after_help = "\
serve applies them as well. Run this command to apply a release's migrations before its
services start.

Example:
  portcullis-origin migrate --data-dir /var/lib/portcullis")]
    Migrate {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Print the OpenAPI 3.1 document of a service.
    #[command(after_help = "\
The services serve it at /openapi.json, and as a page at /docs.

Example:
  portcullis-origin openapi auth > auth.json")]
    Openapi {
        /// The service.
        service: openapi::Service,
    },
    /// Copy the SQLite databases into a directory while they are in use.
    #[command(after_help = "\
The copies are users.db and auth.db, readable by their owner only; existing files are not
overwritten. Store the master key separately. For PostgreSQL use pg_dump, and dump the user
service's database first.

To restore: stop the services, replace the databases by the copies (and remove auth.db-wal,
auth.db-shm, users.db-wal and users.db-shm), run reconcile, start the services.

Example:
  portcullis-origin backup --to /var/backups/portcullis/$(date +%F)")]
    Backup {
        /// The services whose databases to copy.
        #[arg(default_value = "all")]
        service: serve::Service,
        /// Directory for the copies; it is created if it does not exist.
        #[arg(long, value_name = "DIRECTORY")]
        to: PathBuf,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Make profiles consistent with accounts after both databases were restored, directly in
    /// the databases.
    #[command(after_help = "\
Two backups are never of the same time. The auth service makes each profile equal to its
account once it runs. The command is safe to repeat.

Example:
  portcullis-origin reconcile --json")]
    Reconcile {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Manage signing keys.
    Keys {
        #[command(subcommand)]
        command: keys::Command,
    },
    /// Manage administrators.
    Admin {
        #[command(subcommand)]
        command: admin::Command,
    },
    /// Manage services that may request service tokens.
    Service {
        #[command(subcommand)]
        command: service::Command,
    },
    /// Manage API keys, with which programs call the gateway.
    ApiKey {
        #[command(subcommand)]
        command: api_key::Command,
    },
}

// Exit codes besides 0.
const EXIT_OTHER: u8 = 1;
const EXIT_SETTING: u8 = 2;
const EXIT_PORT: u8 = 3;

/// Runs the command of the command line.
pub(crate) async fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return print_usage(&error),
    };
    init_log(&cli);
    let output = Output { json: cli.json };
    let result = match cli.command {
        Command::Serve { service, settings } => match Secrets::from_env() {
            Ok(secrets) => serve::serve(service, settings.with_secrets(secrets)).await,
            Err(fault) => Err(fault.into()),
        },
        Command::Health { service, settings } => health::health(service, &settings, output).await,
        Command::Migrate { settings } => migrate(&settings, output).await,
        Command::Openapi { service } => openapi::openapi(service, output),
        Command::Backup { service, to, settings } => backup::backup(service, &to, &settings, output).await,
        Command::Reconcile { settings } => backup::reconcile(&settings, output).await,
        Command::Keys { command } => keys::run(command, output).await,
        Command::Admin { command } => admin::run(command, output).await,
        Command::Service { command } => service::run(command, output).await,
        Command::ApiKey { command } => api_key::run(command, output).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            let (kind, code) = match fault {
                StartError::Setting(_) => ("setting", EXIT_SETTING),
                StartError::Port(_) => ("port", EXIT_PORT),
                StartError::Other(_) => ("other", EXIT_OTHER),
            };
            output.fail(kind, &fault.to_string());
            ExitCode::from(code)
        }
    }
}

/// Prints the help, the version, or the error of a command line that cannot be parsed.
fn print_usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == OsStr::new("--json"));
    if error.use_stderr() && wants_json {
        Output { json: true }.fail("usage", error.to_string().trim_end());
    } else {
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_SETTING))
}

fn init_log(cli: &Cli) {
    let serves = matches!(cli.command, Command::Serve { .. });
    let quiet = if cli.json { LevelFilter::OFF } else { LevelFilter::WARN };
    let level = cli.log_level.unwrap_or(if serves { LevelFilter::INFO } else { quiet });
    let layer =
        fmt::layer().json().flatten_event(true).with_target(false).with_current_span(false).with_span_list(false);
    let layer = if serves { layer.boxed() } else { layer.with_writer(std::io::stderr).boxed() };
    tracing_subscriber::registry().with(level).with(layer).init();
}

/// What a command does if the database does not exist, usually because of a wrong directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// Creates it.
    Create,
    /// Fails. The text says how to create it.
    Refuse(&'static str),
}

const MIGRATE: Absent = Absent::Refuse("run migrate to create it");

/// Opens the auth service's database and applies its migrations.
async fn open_auth(settings: &Settings) -> Result<Database, StartError> {
    open(settings, Schema::Auth, MIGRATE).await
}

async fn open_both(settings: &Settings, absent: Absent) -> Result<(Database, Database), StartError> {
    settings.check_databases()?;
    check_there(settings, Schema::Auth, absent).await?;
    check_there(settings, Schema::Users, absent).await?;
    Ok((open(settings, Schema::Auth, absent).await?, open(settings, Schema::Users, absent).await?))
}

async fn open(settings: &Settings, schema: Schema, absent: Absent) -> Result<Database, StartError> {
    check_there(settings, schema, absent).await?;
    let (variable, url) = place(settings, schema);
    settings.create_data_dir(&url)?;
    Database::open(&url, schema).await.map_err(|error| cannot_open(variable, &url, &error))
}

async fn check_there(settings: &Settings, schema: Schema, absent: Absent) -> Result<(), StartError> {
    let Absent::Refuse(how) = absent else { return Ok(()) };
    let (variable, url) = place(settings, schema);
    if Database::exists(&url, schema).await.map_err(|error| cannot_open(variable, &url, &error))? {
        return Ok(());
    }
    let file = url.strip_prefix("sqlite://").map(|file| format!(" {file}")).unwrap_or_default();
    Err(StartError::Setting(format!(
        "the database{file} of {variable} does not exist; set DATA_DIR or {variable} to the right one, or {how}"
    )))
}

/// Returns the variable and the URL of a service's database.
fn place(settings: &Settings, schema: Schema) -> (&'static str, String) {
    match schema {
        Schema::Auth => ("AUTH_DATABASE_URL", settings.auth_database()),
        Schema::Users => ("USERS_DATABASE_URL", settings.users_database()),
    }
}

fn cannot_open(variable: &str, url: &str, error: &sqlx::Error) -> StartError {
    StartError::Other(format!("the database of {variable} cannot be opened: {}", describe_open_error(url, error)))
}

/// Adds an audit event of a command, with the id of its object or an error code.
async fn record_event(database: &Database, event_type: &str, operation: &str, done: Result<Option<String>, &str>) {
    record_command(&AuditLog(database.clone()), event_type, &format!("cli {operation}"), done, &Clock::default()).await;
}

async fn migrate(settings: &Settings, output: Output) -> Result<(), StartError> {
    open_both(settings, Absent::Create).await?;
    output.print("both databases are up to date", &json!({ "up_to_date": ["auth", "users"] }))
}
