//! The command line: what may be said, and who does it. Settings that are wrong end in one
//! sentence that names the mend.
//!
//! A command's answer is on standard output, for people or, with `--json`, as one document
//! for scripts; whatever else there is to say is on standard error. Only `serve` logs to
//! standard output.

mod admin;
mod backup;
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

/// The services behind the gate: accounts and tokens (auth), profiles (users).
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Secrets come from the environment alone, where no process list shows them:
  MASTER_KEY or MASTER_KEY_FILE    encrypts the signing keys at rest
  MASTER_KEY_OLD, …_OLD_FILE       the key that it replaces, for one start
  ASSERTION_KEYS_AUTH, …_USERS     shared with the gateway, one for each service
  SERVICE_SECRET_AUTH_SERVICE, SERVICE_SECRET_USER_SERVICE
  METRICS_TOKEN                    opens /metrics; without one it is open
  ADMIN_EMAIL with ADMIN_PASSWORD or ADMIN_PASSWORD_FILE
                                   the first administrator, made when there is none

Examples:
  portcullis-origin serve                        both services, data in .data
  portcullis-origin serve auth --auth-port 9000
  portcullis-origin admin create --email ada@example.com
  portcullis-origin service add billing --audience user-service

Exit codes: 0 done, 1 failed, 2 a setting or an argument is wrong, 3 a port is taken."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Answer as one JSON document, and with one JSON object on standard error when it fails.
    #[arg(long, global = true)]
    json: bool,
    /// Least level that is logged [default: info for serve, else warn; off with --json].
    #[arg(long, env = "LOG_LEVEL", global = true)]
    log_level: Option<LevelFilter>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run services until SIGTERM or Ctrl-C, then finish what is under way.
    #[command(after_help = "\
The log is JSON, one line a request. The line \"listening\" says that a service does its
work; until then /health answers 200 and everything else 503.

Examples:
  portcullis-origin serve
  AUTH_DATABASE_URL=postgres://db/auth portcullis-origin serve auth")]
    Serve {
        /// Which services.
        #[arg(default_value = "all")]
        service: serve::Service,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Bring both databases up to date and exit.
    #[command(after_help = "\
serve does this, too. Run it by itself to see a release's changes done before its services
start.

Example:
  portcullis-origin migrate --data-dir /var/lib/portcullis")]
    Migrate {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Print how a service describes itself (OpenAPI 3.1).
    #[command(after_help = "\
The services give the same at /openapi.json, and a page of it at /docs.

Example:
  portcullis-origin openapi auth > auth.json")]
    Openapi {
        /// Which service.
        service: openapi::Service,
    },
    /// Copy the SQLite databases into a folder, while they are in use.
    #[command(after_help = "\
The copies are users.db and auth.db, for their owner alone; nothing is ever overwritten. Keep
the master key apart from them. PostgreSQL has pg_dump: the user service's database first.

To restore: stop the services, put the copies in the place of the databases (and remove
auth.db-wal, auth.db-shm and the like), run reconcile, start.

Example:
  portcullis-origin backup --to /var/backups/portcullis/$(date +%F)")]
    Backup {
        /// Whose database.
        #[arg(default_value = "all")]
        service: serve::Service,
        /// Folder for the copies; it is made if there is none.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Make accounts and profiles agree after both databases were restored. To be run where
    /// the databases are.
    #[command(after_help = "\
Two back-ups are never of one moment. What differs is made what the accounts say, by the auth
service once it runs. Done twice it does no harm.

Example:
  portcullis-origin reconcile --json")]
    Reconcile {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Signing keys.
    Keys {
        #[command(subcommand)]
        command: keys::Command,
    },
    /// Administrators.
    Admin {
        #[command(subcommand)]
        command: admin::Command,
    },
    /// Services that may ask for service tokens.
    Service {
        #[command(subcommand)]
        command: service::Command,
    },
}

/// Exit codes: anything else, a setting is wrong, a port is taken.
const EXIT_OTHER: u8 = 1;
const EXIT_SETTING: u8 = 2;
const EXIT_PORT: u8 = 3;

/// Does what the command line says.
pub(crate) async fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error),
    };
    log(&cli);
    let output = Output { json: cli.json };
    let result = match cli.command {
        Command::Serve { service, settings } => serve::serve(service, settings.with_secrets(Secrets::from_env())).await,
        Command::Migrate { settings } => migrate(&settings, output).await,
        Command::Openapi { service } => openapi::openapi(service, output),
        Command::Backup { service, to, settings } => backup::backup(service, &to, &settings, output).await,
        Command::Reconcile { settings } => backup::reconcile(&settings, output).await,
        Command::Keys { command } => keys::run(command, output).await,
        Command::Admin { command } => admin::run(command, output).await,
        Command::Service { command } => service::run(command, output).await,
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

/// Help and versions are answers; what is left is a command line that says nothing.
fn misread(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == OsStr::new("--json"));
    if error.use_stderr() && wants_json {
        Output { json: true }.fail("usage", error.to_string().trim_end());
    } else {
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_SETTING))
}

fn log(cli: &Cli) {
    let serves = matches!(cli.command, Command::Serve { .. });
    let quiet = if cli.json { LevelFilter::OFF } else { LevelFilter::WARN };
    let level = cli.log_level.unwrap_or(if serves { LevelFilter::INFO } else { quiet });
    let layer =
        fmt::layer().json().flatten_event(true).with_target(false).with_current_span(false).with_span_list(false);
    let layer = if serves { layer.boxed() } else { layer.with_writer(std::io::stderr).boxed() };
    tracing_subscriber::registry().with(level).with(layer).init();
}

/// What a command does where there is no database: in the wrong folder, most likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// Makes one.
    Make,
    /// Says so. The text says how one is made.
    Refuse(&'static str),
}

const MIGRATE: Absent = Absent::Refuse("run migrate to make it");

/// The auth service's database, up to date.
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
    settings.create_data_dir()?;
    let (variable, url) = place(settings, schema);
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
        "there is no database{file} of {variable}; set DATA_DIR or {variable} to where it is, or {how}"
    )))
}

/// The variable that says where a service's database is, and what it says.
fn place(settings: &Settings, schema: Schema) -> (&'static str, String) {
    match schema {
        Schema::Auth => ("AUTH_DATABASE_URL", settings.auth_database()),
        Schema::Users => ("USERS_DATABASE_URL", settings.users_database()),
    }
}

fn cannot_open(variable: &str, url: &str, error: &sqlx::Error) -> StartError {
    StartError::Other(format!("the database of {variable} cannot be opened: {}", describe_open_error(url, error)))
}

/// Leaves an event of a command in the audit trail, whatever became of it: the thing that it
/// was about, or a code.
async fn leave_event(database: &Database, event_type: &str, operation: &str, done: Result<Option<String>, &str>) {
    record_command(&AuditLog(database.clone()), event_type, &format!("cli {operation}"), done, &Clock::default()).await;
}

async fn migrate(settings: &Settings, output: Output) -> Result<(), StartError> {
    open_both(settings, Absent::Make).await?;
    output.say("both databases are up to date", &json!({ "up_to_date": ["auth", "users"] }));
    Ok(())
}
